package simnet

import (
	"fmt"
	"strings"

	"parallax/broadcast/member"
)

// The directives about groups in which an admin lets newcomers in.

// askIn asks to be let in, and answers what the newcomer is told.
func (x *Script) askIn(w words) (string, error) {
	n, err := x.first(w)
	if err != nil {
		return "", err
	}
	name := n.Name()
	if as, ok := w.named["as"]; ok {
		name = as
	}
	_, err = x.s.Do(n, member.JoinGroup{Link: x.s.Link, Name: name})
	if v, e := x.s.Do(n, member.GetStatus{}); e == nil {
		x.s.joined(n, v.(member.Status).GroupInfo)
	}
	if err != nil {
		return refusal(err)
	}
	return x.asking(w)
}

func (x *Script) asking(w words) (string, error) {
	v, err := x.ask(w, member.GetStatus{})
	if err != nil {
		return refusal(err)
	}
	st := v.(member.Status)
	if st.Asking == nil {
		return fmt.Sprintf("in: %v", st.Ready), nil
	}
	return fmt.Sprintf("The request is at %d operators, %d are needed. %s", st.Asking.Relays, st.Asking.Needed, st.Asking.Text), nil
}

// seatOf is the beginning of the seat that a node of the scenario asks with, or the
// word itself.
func (x *Script) seatOf(who string) string {
	node, ok := strings.CutPrefix(who, "@")
	if !ok {
		return who
	}
	for seat, name := range x.s.seats {
		if name == node {
			return seat
		}
	}
	return who
}

// decision makes a directive of a wish about one word.
func (x *Script) decision(wish func(string) member.Wish) func(words) (string, error) {
	return func(w words) (string, error) {
		n, err := x.first(w)
		if err != nil {
			return "", err
		}
		if len(w.args) != 2 {
			return "", fmt.Errorf("%w: about whom?", ErrDirective)
		}
		v, err := x.s.Do(n, wish(w.args[1]))
		if err != nil {
			return refusal(err)
		}
		return v.(member.OperationInfo).What, nil
	}
}

func (x *Script) requests(w words) (string, error) {
	v, err := x.ask(w, member.GetRequests{})
	if err != nil {
		return refusal(err)
	}
	list := v.([]member.RequestInfo)
	if len(list) == 0 {
		return "none", nil
	}
	return x.s.table(func(line func(...string)) {
		for _, r := range list {
			agreed := "too few"
			if r.Agreed {
				agreed = "agreed"
			}
			line(r.Name+" ["+r.Seat[:8]+"]", agreed, "shown by "+strings.Join(r.Shown, " "), "not by "+strings.Join(r.Missing, " "))
		}
	}), nil
}
