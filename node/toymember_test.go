package node

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// toyMember is a membership without cryptography: it keeps its group's name
// and relays, says Hello and Ping on every link, and makes an event of every
// Pong and of every text.
type toyMember struct {
	unit   store.Unit
	base   uint64
	turn   uint64
	group  *member.CreateGroup
	number uint64
	links  map[broadcast.Link]broadcast.Up
	out    broadcast.Ready
	why    map[keys.RelayPublic]string
}

func openToyMember(u store.Unit, r store.Reader, _ broadcast.Entropy) (broadcast.Machine, error) {
	m := &toyMember{unit: u, links: map[broadcast.Link]broadcast.Up{}, why: map[keys.RelayPublic]string{}}
	var err error
	if m.base, err = r.Revision(u); err != nil {
		return nil, err
	}
	v, err := r.Get(key(u, 'm', 0))
	if errors.Is(err, store.ErrNotFound) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(v, &m.group)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", member.ErrStore, err)
	}
	if v, err = r.Get(key(u, 'c', 0)); err == nil {
		m.number = binary.BigEndian.Uint64(v)
	}
	m.want()
	return m, nil
}

func (m *toyMember) want() {
	m.out.Links = []broadcast.WantLink{}
	for _, r := range m.group.Relays {
		m.out.Links = append(m.out.Links,
			broadcast.WantLink{Relay: r.Key, Use: broadcast.ReadLink, Addrs: r.Addrs},
			broadcast.WantLink{Relay: r.Key, Use: broadcast.PostLink, Addrs: r.Addrs})
	}
}

func (m *toyMember) op(key, value []byte) {
	if m.out.Write == nil {
		m.out.Write = &store.Batch{Unit: m.unit, Base: m.base}
	}
	m.out.Write.Ops = append(m.out.Write.Ops, store.Op{Key: key, Value: value})
}

func (m *toyMember) event(e member.Event) {
	m.number++
	e.Number = m.number
	b, _ := json.Marshal(e)
	m.op(member.EventKey(m.unit, e.Number), b)
	m.op(key(m.unit, 'c', 0), binary.BigEndian.AppendUint64(nil, m.number))
	m.out.Events = append(m.out.Events, broadcast.Event{Number: e.Number, Body: e})
}

func (m *toyMember) hint(kind member.EventKind, text string) {
	m.out.Events = append(m.out.Events, broadcast.Event{Body: member.Event{Kind: kind, Text: text}})
}

// toyErrors are what GetCode{Member: name} is refused with.
var toyErrors = func() map[string]error {
	m := map[string]error{"refusal": fmt.Errorf("%w: %w", member.ErrRefused, &proto.Refusal{Code: proto.CodeQuota, Limit: "MaxLogBytes", Retry: time.Minute})}
	for name, err := range causes {
		m[name] = fmt.Errorf("in vain: %w", err)
	}
	return m
}()

func (m *toyMember) command(c broadcast.Command) {
	answer := func(v any, err error) {
		m.out.Answers = append(m.out.Answers, broadcast.Answer{ID: c.ID, Value: v, Err: err})
	}
	info := func() member.GroupInfo {
		return member.GroupInfo{Group: m.group.Group, Name: m.group.Name, ID: fmt.Sprintf("%x", m.group.Group)}
	}
	if w, ok := c.Wish.(member.CreateGroup); ok {
		if w.Group == "in vain" {
			answer(nil, member.ErrUnreached)
			return
		}
		m.group = &w
		b, _ := json.Marshal(w)
		m.op(key(m.unit, 'm', 0), b)
		m.event(member.Event{Kind: member.EventJoined})
		m.want()
		answer(info(), nil)
		return
	}
	if m.group == nil {
		answer(nil, member.ErrNotReady)
		return
	}
	switch w := c.Wish.(type) {
	case member.GetStatus:
		s := member.Status{GroupInfo: info(), Ready: true, Events: m.number}
		for _, r := range m.group.Relays {
			links := 0
			for _, up := range m.links {
				if up.Relay == r.Key {
					links++
				}
			}
			s.Relays = append(s.Relays, member.RelayStatus{Key: r.Key, Connected: links == 2, Outbox: links, Problem: m.why[r.Key]})
		}
		answer(s, nil)
	case member.SendText:
		switch w.Text {
		case "hang":
		case "panic button":
			m.op([]byte("a key of no unit"), nil)
		default:
			m.hint(member.EventProgress, w.Text)
			m.event(member.Event{Kind: member.EventMessage, Text: w.Text})
			answer(member.SentInfo{ID: fmt.Sprint(m.number)}, nil)
		}
	case member.GetCode:
		answer(nil, toyErrors[w.Member])
	case member.GetEvidence:
		answer([]member.EvidenceInfo{{ID: w.ID}}, nil)
	default:
		answer(nil, errToy)
	}
}

func (m *toyMember) Step(_ time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Command:
		m.command(in)
	case broadcast.Up:
		m.links[in.Link] = in
		delete(m.why, in.Relay)
		m.out.Now = append(m.out.Now,
			broadcast.Send{Link: in.Link, Frame: proto.Encode(proto.Hello{Min: 1, Max: 1, Channel: wire.ChannelID(in.Relay)})},
			broadcast.Send{Link: in.Link, Frame: proto.Encode(proto.Ping{Value: uint64(in.Use)})})
	case broadcast.Down:
		m.why[in.Relay] = in.Why
		delete(m.links, in.Link)
	case broadcast.Received:
		if in.Frame.Type == proto.TypePong {
			m.event(member.Event{Kind: member.EventMessage, Text: "pong"})
		}
	}
	return nil
}

func (m *toyMember) Tick(time.Time) {}

func (m *toyMember) Ready() broadcast.Ready {
	r := m.out
	m.out = broadcast.Ready{}
	if r.Write != nil {
		m.base++
	}
	if r.Write != nil || len(r.Sends)+len(r.Events)+len(r.Answers) > 0 {
		m.turn++
		r.Turn = m.turn
	}
	return r
}
