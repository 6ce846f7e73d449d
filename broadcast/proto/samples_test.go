package proto

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// fill is a value of all b, so that a layout shows which field stands where.
func fill(b byte, n int) []byte  { return bytes.Repeat([]byte{b}, n) }
func fill16(b byte) (v [16]byte) { copy(v[:], fill(b, 16)); return v }
func fill32(b byte) (v [32]byte) { copy(v[:], fill(b, 32)); return v }
func fill64(b byte) (v [64]byte) { copy(v[:], fill(b, 64)); return v }
func someStatement() crossverify.Statement {
	return crossverify.Statement{
		Relay: fill32(0xa1), Channel: fill32(0xa2), Lineage: fill16(0xa3), N: 0xa4,
		D: fill32(0xa5), H: fill32(0xa6), Root: fill32(0xa7), Signature: fill64(0xa8),
	}
}

// statementLayout is someStatement in the notation of sample.layout.
const statementLayout = "a1*32 a2*32 a3*16 00*7 a4 a5*32 a6*32 a7*32 a8*64"

// sample is a message and its body, as section 10 has it: hex, or one byte
// times a count. S stands for someStatement.
type sample struct {
	m      Message
	layout string
}

func samples() []sample {
	s := someStatement()
	put := BoardPut{
		PostID: fill16(1), Name: fill32(2), Version: 3, Value: []byte{4, 5}, Owner: fill32(6),
		OwnerSignature: fill64(7), Capability: fill32(8), Signature: fill64(9),
	}
	const putLayout = "01*16 02*32 00*7 03 00000002 0405 06*32 07*64 08*32 09*64"
	return []sample{
		{Hello{1, 2, 3, fill32(4)}, "0001 0002 00*7 03 04*32"},
		{Info{}, ""},
		{Create{fill16(1), []byte{2}, fill32(3), fill32(4), fill64(5)}, "01*16 00000001 02 03*32 04*32 05*64"},
		{Grant{fill16(1), fill32(7), fill32(2), 3, 4, 5, true, fill64(6)}, "01*16 07*32 02*32 00000003 00000004 00*7 05 01 06*64"},
		{Register{fill32(1), fill32(2), fill64(3)}, "01*32 02*32 03*64"},
		{Open{fill16(1), fill16(2), 3, 4, nil, fill64(5)}, "01*16 02*16 00*7 03 00000004 00 05*64"},
		{Open{fill16(1), fill16(2), 3, 4, &s, fill64(5)}, "01*16 02*16 00*7 03 00000004 01 S 05*64"},
		{Ack{1}, "00*7 01"},
		{Fetch{1, 2}, "00*7 01 00*7 02"},
		{
			Post{
				PostID: fill16(1), Hint: [8]byte(fill(2, 8)), Nonce: [24]byte(fill(3, 24)), Fanout: fill32(4),
				Envelope: []byte{5}, Slots: []byte{6}, Signature: fill64(7),
			},
			"01*16 02*8 03*24 04*32 00000000 00000002 0000 00000001 05 00000001 06 07*64",
		},
		{
			Post{
				PostID: fill16(1), Hint: [8]byte(fill(2, 8)), Nonce: [24]byte(fill(3, 24)), Fanout: fill32(4),
				Mailboxes:  []wire.MailboxID{fill16(5), fill16(6)},
				Exceptions: broadcast.Exceptions{{Index: 1, Class: broadcast.Answering}},
				Envelope:   []byte{7}, Slots: fill(8, 88+136), Signature: fill64(9),
			},
			"01*16 02*8 03*24 04*32 00000002 05*16 06*16 00000005 0001 000101 00000001 07 000000e0 08*224 09*64",
		},
		{put, putLayout},
		{Admit{put}, putLayout},
		{BoardList{fill32(1), 2}, "01*32 00000002"},
		{BoardProve{fill32(1)}, "01*32"},
		{BoardWalk{fill32(1), []crossverify.Prefix{{}}}, "01*32 01 0000"},
		{
			BoardWalk{fill32(1), []crossverify.Prefix{{Len: 4, Bits: wire.Digest{0x20}}, {Len: 9, Bits: wire.Digest{0x30, 0x80}}, {Len: 256, Bits: fill32(0x31)}}},
			"01*32 03 0004 20 0009 3080 0100 31*32",
		},
		{StatementOf{1}, "00*7 01"},
		{SlotBlock{1}, "00*7 01"},
		{Ping{1}, "00*7 01"},
		{Bye{}, ""},
		{Rotate{fill16(1), fill32(9), 2, fill32(3), []Admin{{fill32(4), RankOwner}}, nil, fill64(5)}, "01*16 09*32 00*7 02 03*32 01 04*32 02 00000000 05*64"},
		{
			Rotate{fill16(1), fill32(9), 2, fill32(3), []Admin{{fill32(4), RankAdmin}, {fill32(6), RankOwner}}, []wire.MailboxID{fill16(7), fill16(8)}, fill64(5)},
			"01*16 09*32 00*7 02 03*32 02 04*32 01 06*32 02 00000002 07*16 08*16 05*64",
		},
		{
			PostDigest{fill16(1), [8]byte(fill(2, 8)), [24]byte(fill(3, 24)), [48]byte(fill(4, 48)), fill64(5)},
			"01*16 02*8 03*24 04*48 05*64",
		},

		{Welcome{1, 2, 3, 4, 5 * time.Second, fill32(6)}, "0001 00*7 02 00000003 00000004 00000005 06*32"},
		{InfoIs{fill32(1), "Ö", fill64(2), nil}, "01*32 00000002 c396 02*64 00"},
		{
			InfoIs{fill32(1), "Ö", fill64(2), []crossverify.Declaration{{First: fill32(3), Second: fill32(4), Signatures: [2][64]byte{fill64(5), fill64(6)}}}},
			"01*32 00000002 c396 02*64 01 01 03*32 04*32 05*64 06*64",
		},
		{Registered{fill16(1), s}, "01*16 S"},
		{Opened{s, nil, 7, fill64(1)}, "S 00 00*7 07 01*64"},
		{Opened{s, &crossverify.Position{Lineage: fill16(1), N: 2, H: fill32(3)}, 0, fill64(4)}, "S 01 01*16 00*7 02 03*32 00*8 04*64"},
		{
			Deliver{1, fill32(2), fill32(3), fill64(4), [8]byte(fill(5, 8)), [24]byte(fill(6, 24)), []byte{7}, 8, []byte{9}},
			"00*7 01 02*32 03*32 04*64 05*8 06*24 00000001 07 00000008 00000001 09",
		},
		{Bare{1, fill32(2), fill32(3), fill64(4)}, "00*7 01 02*32 03*32 04*64"},
		{Entry{1, fill32(2), fill64(3), BoardEntry{fill32(4), 5, []byte{6}}}, "00*7 01 02*32 03*64 04*32 00*7 05 00000001 06"},
		{Trimmed{fill16(1), 2, fill32(3), fill64(4)}, "01*16 00*7 02 03*32 04*64"},
		{CaughtUp{1}, "00*7 01"},
		{Receipt{fill16(1), s}, "01*16 S"},
		{NeedFanout{fill16(1), fill32(2)}, "01*16 02*32"},
		{BoardPage{Statement: s}, "00000000 00 S"},
		{
			BoardPage{[]BoardEntry{{fill32(1), 2, []byte{3}}, {fill32(4), 5, []byte{}}}, true, s},
			"00000002 01*32 00*7 02 00000001 03 04*32 00*7 05 00000000 01 S",
		},
		{BoardProof{fill32(1), crossverify.Proof{}, s}, "01*32 00000003 0000 00 S"},
		{
			BoardProof{fill32(1), crossverify.Proof{
				Siblings: []wire.Digest{fill32(2)}, Occupied: true,
				Leaf: crossverify.Leaf{Name: fill32(3), Version: 4, Value: fill32(5)},
			}, s},
			"01*32 0000006b 0001 02*32 01 03*32 00*7 04 05*32 S",
		},
		{BoardNodes{Statement: s}, "S 00"},
		{
			BoardNodes{s, []Subtree{
				{Nodes: crossverify.Nodes{{Kind: crossverify.NodeEmpty}}},
				{Entry: &BoardEntry{fill32(1), 2, []byte{3}}},
				{},
				{Nodes: crossverify.Nodes{{Kind: crossverify.NodeFork}, {Kind: crossverify.NodeLeaf, Hash: fill32(4)}, {Kind: crossverify.NodeLeaf, Hash: fill32(5)}}},
			}},
			"S 04 00 00 01 01*32 00*7 02 00000001 03 02 00 03 01 04*32 01 05*32",
		},
		{StatementIs{s}, "S"},
		{
			SlotBlockIs{1, []wire.MailboxID{fill16(2)}, broadcast.Exceptions{{Index: 0, Class: broadcast.FirstContact}}, fill(3, 1264)},
			"00*7 01 00000001 02*16 00000005 0001 000002 000004f0 03*1264",
		},
		{Pong{1}, "00*7 01"},
		{Refused{1, fill16(2), CodeQuota, "é", 3 * time.Millisecond, "no"}, "01 02*16 0007 00000002 c3a9 00000003 00000002 6e6f"},
		{
			DeliverDigest{1, fill32(2), fill64(3), [8]byte(fill(4, 8)), [24]byte(fill(5, 24)), [48]byte(fill(6, 48))},
			"00*7 01 02*32 03*64 04*8 05*24 06*48",
		},
		{Leaving{CodeBusy, 4 * time.Millisecond, "/ip4"}, "000d 00000004 00000004 2f697034"},
	}
}

// body is what a layout spells.
func body(t testing.TB, layout string) []byte {
	t.Helper()
	var b []byte
	for _, token := range strings.Fields(strings.ReplaceAll(layout, "S", statementLayout)) {
		digits, times, many := strings.Cut(token, "*")
		part, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("layout %q: %v", layout, err)
		}
		if many {
			n, err := strconv.Atoi(times)
			if err != nil {
				t.Fatalf("layout %q: %v", layout, err)
			}
			part = bytes.Repeat(part, n)
		}
		b = append(b, part...)
	}
	return b
}

func (s sample) String() string { return fmt.Sprintf("%s %.60s", Name(s.m.Type()), s.layout) }

// Keys of the signature tests.
var (
	testRelay   = new(keys.RelayPrivate).FromSeed(fill32(0x51)).Public()
	testChannel = wire.ChannelID(fill32(0x52))
	testNonce   = Nonce(fill32(0x53))
)
