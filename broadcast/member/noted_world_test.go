package member_test

import (
	"regexp"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
)

// lies of a relay, that goes on with them for as long as it is asked.
var standingLies = map[string]func(to *memberNode, f broadcast.Frame) []broadcast.Frame{
	"gives no receipts": func(_ *memberNode, f broadcast.Frame) []broadcast.Frame {
		if f.Type == proto.TypeReceipt {
			return nil
		}
		return []broadcast.Frame{f}
	},
	"spoils slots":   changed(func(d *proto.Deliver) { d.Slot[0] ^= 1 }),
	"breaks the log": changed(func(d *proto.Deliver) { d.Envelope[len(d.Envelope)-1] ^= 1 }),
	"refuses": func(_ *memberNode, f broadcast.Frame) []broadcast.Frame {
		if msg, err := proto.Parse(f); err == nil {
			if r, ok := msg.(proto.Receipt); ok {
				f = proto.Encode((&proto.Refusal{Code: proto.CodeTooLarge, Limit: "MaxFrame"}).Frame(proto.TypePost, r.PostID))
			}
		}
		return []broadcast.Frame{f}
	},
	"ends the mailbox": func(_ *memberNode, f broadcast.Frame) []broadcast.Frame {
		if f.Type == proto.TypeOpened {
			f = proto.Encode((&proto.Refusal{Code: proto.CodeEnded}).Frame(proto.TypeOpen, [16]byte{}))
		}
		return []broadcast.Frame{f}
	},
}

// changed makes a lie about every message that is delivered.
func changed(do func(*proto.Deliver)) func(*memberNode, broadcast.Frame) []broadcast.Frame {
	return func(_ *memberNode, f broadcast.Frame) []broadcast.Frame {
		if msg, err := proto.Parse(f); err == nil {
			if d, ok := msg.(proto.Deliver); ok {
				d.Slot, d.Envelope = append([]byte(nil), d.Slot...), append([]byte(nil), d.Envelope...)
				do(&d)
				f = proto.Encode(d)
			}
		}
		return []broadcast.Frame{f}
	}
}

var particulars = regexp.MustCompile(`[0-9a-f]{16}|\d+`)

// TestOneLineOverManyOpenings: whoever opens the membership for every command, in a
// state that stays as bad as it is, is told once what is wrong.
func TestOneLineOverManyOpenings(t *testing.T) {
	for name, lie := range standingLies {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3, "Ann", "Bob", "Cy")
			w.group(false)
			ann, bob := w.nodes[0], w.nodes[1]
			w.run(20 * time.Second)
			w.relays[2].filter = func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
				if to != ann {
					return []broadcast.Frame{f}
				}
				return lie(to, f)
			}
			for range 10 {
				ann.restart()
				w.run(5 * time.Second)
				bob.must(member.SendText{Text: "hello"})
				if _, err := ann.do(member.SendText{Text: "hello"}); err != nil {
					t.Fatal(err)
				}
				w.run(40 * time.Second)
			}
			told := map[string]int{}
			for _, e := range ann.events {
				if e.Number > 0 && e.Kind != member.EventMessage && e.Kind != member.EventJoined {
					told[string(e.Kind)+": "+particulars.ReplaceAllString(e.Text, "N")]++
				}
			}
			for text, n := range told {
				if n > 1 {
					t.Errorf("told %d times: %s", n, text)
				}
			}
			if len(told) != 1 {
				t.Errorf("told %d things: %v", len(told), told)
			}
		})
	}
}
