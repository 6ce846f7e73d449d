package simnet

import (
	"errors"
	"fmt"
	"time"

	"parallax/simnet/adversary"
)

// The directives of the adversary.

func (x *Script) insider(w words) (string, error) {
	if len(w.args) != 1 {
		return "", fmt.Errorf("%w: insider NAME", ErrDirective)
	}
	var accused *Relay
	if v, ok := w.named["accuses"]; ok {
		list, err := x.relays(v)
		if err != nil {
			return "", err
		}
		accused = list[0]
	}
	if accused != nil {
		x.s.deeds["accuses"] = true
	}
	x.s.AddInsider(w.args[0], accused)
	return "", nil
}

// witness makes relays that fork from now on show an insider what they show the
// victim.
func (x *Script) witness(w words) (string, error) {
	n, err := x.first(w)
	if err == nil && !x.s.Foes[n.name] {
		err = fmt.Errorf("%w: %s is no insider", ErrDirective, n.name)
	}
	if err != nil {
		return "", err
	}
	x.s.Witnesses[n.name], x.s.deeds["vouches"] = true, true
	return "", nil
}

// say has an insider say what no honest client does.
func (x *Script) say(w words) (string, error) {
	n, err := x.first(w)
	if err != nil || len(w.args) < 3 || !x.s.Foes[n.name] {
		return "", errors.Join(err, fmt.Errorf("%w: say INSIDER N,N KIND [of=NAME] [count=N]", ErrDirective))
	}
	to, err := x.relays(w.args[1])
	if err != nil {
		return "", err
	}
	count, err := number(w, "count", 1)
	if err != nil {
		return "", err
	}
	kind, of := w.args[2], w.named["of"]
	deed := map[string]func() error{
		"misnames":  func() error { return x.s.Misname(n, to, of) },
		"asks":      func() error { return x.s.Ask(n, to, of) },
		"resends":   func() error { return x.s.Resend(n, to, of, w.args[len(w.args)-1]) },
		"operates":  func() error { return x.s.Operate(n, to, of) },
		"evidences": func() error { return x.s.Accuse(n, to) },
	}[kind]
	if deed == nil {
		return "", fmt.Errorf("%w: an insider says nothing of the kind %q", ErrDirective, kind)
	}
	x.s.deeds[kind] = true
	for range count {
		if err := deed(); err != nil {
			return "", err
		}
		if err := x.s.Run(time.Second); err != nil {
			return "", err
		}
	}
	return "", nil
}

// letIn has an insider let a false seat in by the link it holds.
func (x *Script) letIn(w words) (string, error) {
	if len(w.args) != 1 || w.named["as"] == "" {
		return "", fmt.Errorf("%w: letin NAME as=NAME", ErrDirective)
	}
	x.s.deeds["lets in"] = true
	return "", x.s.LetIn(x.s.AddMember(w.args[0]), w.named["as"])
}

func (x *Script) greet(w words) (string, error) {
	list, err := x.liars(w)
	if err != nil {
		return "", err
	}
	x.s.deeds["greets"] = true
	return "", x.s.Greet(list[0], list, w.named["from"])
}

func (x *Script) lie(w words) (string, error) {
	list, err := x.liars(w)
	if err != nil || len(w.args) < 2 {
		return "", errors.Join(err, fmt.Errorf("%w: lie N KIND victim=NAME", ErrDirective))
	}
	victim, kind := w.named["victim"], w.args[1]
	if _, err := x.node(victim); err != nil {
		return "", err
	}
	if kind == "substitute" {
		return "", x.s.Substitute(list, victim, w.named["hide"], w.named["with"], w.has("alone"))
	}
	for _, r := range list {
		if err := x.lieAt(r, kind, victim, w); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (x *Script) lieAt(r *Relay, kind, victim string, w words) error {
	s := x.s
	switch kind {
	case "split":
		life, known := map[string]adversary.Life{"": adversary.SameLife, "new": adversary.NewLife, "twin": adversary.TwinLife}[w.named["life"]]
		if !known {
			return fmt.Errorf("%w: a life is new or twin", ErrDirective)
		}
		s.Split(r, victim, w.named["drop"], life, w.has("leaps"))
		return nil
	case "unask":
		s.Unask(r, victim, w.named["drop"])
		return nil
	case "forget":
		s.Forget(r, victim)
		return nil
	case "noreceipt":
		s.NoReceipt(r, victim)
		return nil
	case "genesis":
		return s.Shorten(r, victim)
	case "stale":
		return s.Stale(r, victim)
	case "conflict":
		return s.Conflict(r, victim, w.named["about"])
	}
	insider := func(lie func(*adversary.Insider) adversary.Lie) func() adversary.Lie {
		return func() adversary.Lie {
			x, err := s.readLog(r)
			if err != nil {
				return nil
			}
			return lie(&x.Insider)
		}
	}
	if digests := map[string]func() adversary.Lie{
		"mute": adversary.Mute, "bend": adversary.Bend, "starve": adversary.Starve, "misdigest": insider(adversary.Misdigest),
	}; digests[kind] != nil {
		s.Rewrite(r, victim, digests[kind](), w.has("clumsy"))
		r.Rewriter.Stubborn = true
		return nil
	}
	lies := map[string]func() adversary.Lie{
		"alter": adversary.Alter, "spoil": adversary.Spoil, "replay": adversary.Replay, "withhold": adversary.Withhold,
		"blank": adversary.Blank, "renumber": adversary.Renumber, "omit": adversary.Omit,
		"onlydigest": insider(adversary.OnlyDigest),
	}
	make := lies[kind]
	if make == nil {
		return fmt.Errorf("%w: no lie is called %q", ErrDirective, kind)
	}
	first, err := number(w, "first", 1)
	if err != nil {
		return err
	}
	count, err := number(w, "count", 0)
	if err != nil {
		return err
	}
	lie := adversary.Bundles(first, count, make())
	if from, ok := w.named["from"]; ok {
		secrets, err := s.readLog(r)
		if err != nil {
			return err
		}
		sender := secrets.announcements[from]
		if sender == nil {
			return fmt.Errorf("%w: the coalition knows nobody called %q", ErrDirective, from)
		}
		lie = adversary.From(&secrets.Insider, sender.Seat, lie)
	}
	s.Rewrite(r, victim, lie, w.has("clumsy"))
	return nil
}

func (x *Script) forge(w words) (string, error) {
	list, err := x.liars(w)
	if err != nil || len(w.args) < 2 {
		return "", errors.Join(err, fmt.Errorf("%w: forge N,N from=NAME \"text\"", ErrDirective))
	}
	x.s.deeds["forges"] = true
	return "", x.s.Forge(list[0], list, w.named["from"], w.args[1])
}

func (x *Script) announce(w words) (string, error) {
	list, err := x.liars(w)
	if err != nil {
		return "", err
	}
	count, err := number(w, "count", 1)
	if err != nil {
		return "", err
	}
	x.s.deeds["announces"] = true
	return "", x.s.Announce(list[0], list, count)
}
