package simnet

import (
	"errors"
	"fmt"
	"strconv"

	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// passOn has a member pass on its newest texts.
func (x *Script) passOn(w words) (string, error) {
	n, err := x.first(w)
	if err != nil || len(w.args) != 2 {
		return "", errors.Join(err, fmt.Errorf("%w: passon NAME N", ErrDirective))
	}
	last, err := strconv.Atoi(w.args[1])
	if err != nil {
		return "", err
	}
	v, err := x.s.Do(n, member.PassOn{Last: last})
	if err != nil {
		return refusal(err)
	}
	i := v.(member.PassedInfo)
	return fmt.Sprintf("%d messages in %d envelopes", i.Messages, i.Envelopes), nil
}

// falsify changes what a member keeps.
func (x *Script) falsify(w words) (string, error) {
	n, err := x.first(w)
	if err != nil || len(w.args) != 2 {
		return "", errors.Join(err, fmt.Errorf("%w: falsify NAME of=NAME \"text\"", ErrDirective))
	}
	x.s.deeds["falsifies"] = true
	return "", x.s.Falsify(n, w.named["of"], w.args[1])
}

// Falsify makes a member lie about the newest text of another that it keeps: it
// has another content under the same number, with the D that follows. Its process
// is stopped and started again.
func (s *Scenario) Falsify(n *Node, of, text string) error {
	inv, err := member.ParseLink(s.Link)
	if err != nil {
		return err
	}
	s.Foes[n.name] = true
	n.Stop()
	defer n.Start()
	from, to := member.KeptTexts(n.unit)
	kvs, _, err := n.disk.Scan(from, to, 1<<30)
	if err != nil {
		return err
	}
	for i := len(kvs) - 1; i >= 0; i-- {
		a, _, err := member.ParseKeptText(kvs[i].Value)
		if err != nil {
			return err
		}
		if s.seats[a.Header.Seat.String()[:8]] != of {
			continue
		}
		c, err := member.ParseContent(a.Content)
		if err != nil {
			return err
		}
		c.Body, c.Previous, c.View = []byte(text), wire.Digest{}, member.View{}
		a.Content = c.Append(nil)
		d, err := a.Digest(inv.Group)
		if err != nil {
			return err
		}
		base, err := n.disk.Revision(n.unit)
		if err != nil {
			return err
		}
		op := store.Op{Key: kvs[i].Key, Value: member.AppendKeptText(nil, a, d)}
		return n.disk.Apply([]store.Batch{{Unit: n.unit, Base: base, Ops: []store.Op{op}}})[0]
	}
	return fmt.Errorf("%w: %s keeps no text of %q", ErrDirective, n.name, of)
}
