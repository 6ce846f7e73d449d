package member

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// GetDelivery asks who has an own text and who has not. Answer: DeliveryInfo.
type GetDelivery struct {
	Message string `json:"message,omitempty"` // message id, or a unique beginning; empty: the newest
}

// Wish implements Wish.
func (GetDelivery) Wish() string { return "delivery" }

// DeliveryInfo answers GetDelivery: relays by their receipts, members by what
// later messages of theirs say. That nothing is known of somebody is no sign.
type DeliveryInfo struct {
	ID      string           `json:"id"`
	Text    string           `json:"text"` // its beginning
	Sent    time.Time        `json:"sent"`
	Relays  []RelayDelivery  `json:"relays"`
	Members []MemberDelivery `json:"members"` // everybody else, by name
}

// RelayState is how far a relay came with a message.
type RelayState string

const (
	RelayReceipt  RelayState = "receipt"   // it has it, says its receipt
	RelayWaiting  RelayState = "waiting"   // in the outbox: it is sent again until there is a receipt
	RelayRefused  RelayState = "refused"   // for good
	RelaySetAside RelayState = "set aside" // by its own signatures, before it gave a receipt
	RelayNothing  RelayState = "nothing"   // no receipt, and not in the outbox any more
)

// RelayDelivery is one relay.
type RelayDelivery struct {
	Label    string     `json:"label"`
	Operator string     `json:"operator"`
	State    RelayState `json:"state"`
	Digest   bool       `json:"digest,omitempty"` // it gets the digest; others carry the message
	Number   uint64     `json:"number,omitempty"` // of the receipt
	Time     time.Time  `json:"time,omitzero"`    // when the receipt or the refusal came
	Shown    Mark       `json:"shown,omitempty"`  // the relay's copy towards this device; empty: not kept any more
	Why      string     `json:"why,omitempty"`    // a sentence, where something is missing
}

// MemberState is what is known of a member and a message.
type MemberState string

const (
	MemberOpened  MemberState = "opened"  // its message names it among those that opened there
	MemberRead    MemberState = "read"    // its message says that it read a relay past it
	MemberBehind  MemberState = "behind"  // it wrote since, and had read no relay so far
	MemberUnheard MemberState = "unheard" // nothing was heard of it since
	MemberNoKey   MemberState = "no key"  // it had no session: it cannot read it
	MemberHeld    MemberState = "held"    // its key was not agreed on or contested: nothing was sent to it
	MemberLater   MemberState = "later"   // it came into the group after it
)

// MemberDelivery is one member.
type MemberDelivery struct {
	Seat    string      `json:"seat"`
	Member  string      `json:"member"` // label
	State   MemberState `json:"state"`
	Message string      `json:"message,omitempty"` // of the member, that says so
	Time    time.Time   `json:"time,omitzero"`     // of that message, by its sender's clock
	// Read are the relays that it read past the message, by its own word.
	// Unchecked are those where this device could not compare the head it named.
	Read      []string `json:"read,omitempty"`
	Unchecked []string `json:"unchecked,omitempty"`
	Why       string   `json:"why"` // a sentence
}

// deliveryOf answers GetDelivery.
func (m *Machine) deliveryOf(w GetDelivery) (DeliveryInfo, error) {
	dl, err := m.findDelivery(w.Message)
	if err != nil {
		return DeliveryInfo{}, err
	}
	v := DeliveryInfo{ID: dl.d.Short(), Text: dl.text, Sent: unixSeconds(dl.sent), Members: []MemberDelivery{}}
	for _, p := range m.paths {
		if dl.relays[p.index].phase != relayNone {
			v.Relays = append(v.Relays, m.relayOf(dl, p))
		}
	}
	for i, seat := range dl.set.seats {
		if st := m.seats[seat]; st != nil && st.ann != nil {
			v.Members = append(v.Members, m.memberOf(dl, st, i))
		}
	}
	for _, st := range m.sortedSeats() {
		if st.own || st.ann == nil || slices.Contains(dl.set.seats, st.seat) {
			continue
		}
		name := m.display(st)
		v.Members = append(v.Members, MemberDelivery{Seat: st.seat.String(), Member: name, State: MemberLater,
			Why: fmt.Sprintf("%s was not known here yet when it was sent: it is not for %s.", name, name)})
	}
	slices.SortStableFunc(v.Members, func(a, b MemberDelivery) int { return strings.Compare(a.Member, b.Member) })
	return v, nil
}

func (m *Machine) findDelivery(id string) (*delivery, error) {
	list := m.delivery.list
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: this device sent no text yet that it keeps the delivery of", ErrNoSuch)
	}
	if id == "" {
		return list[len(list)-1], nil
	}
	has := func(short string) bool { return strings.HasPrefix(short, strings.ToLower(id)) }
	var found *delivery
	for _, dl := range list {
		if has(dl.d.Short()) {
			if found != nil {
				return nil, fmt.Errorf("%w: %s begins several messages", ErrAmbiguous, id)
			}
			found = dl
		}
	}
	if found == nil && slices.ContainsFunc(m.recent, func(msg *message) bool { return !msg.own && has(msg.d.Short()) }) {
		return nil, fmt.Errorf("%w: message %s is not yours; how it came show its paths", ErrNoSuch, id)
	}
	if found == nil {
		return nil, fmt.Errorf("%w: message %s is not among your %d newest texts", ErrNoSuch, id, len(list))
	}
	return found, nil
}

// relayOf tells how far one relay came.
func (m *Machine) relayOf(dl *delivery, p *path) RelayDelivery {
	rd := &dl.relays[p.index]
	v := RelayDelivery{Label: p.label(), Operator: m.operatorName(p.ref.Operator), Digest: rd.digest}
	if rd.at > 0 {
		v.Time = unixSeconds(rd.at)
	}
	if m.messages[dl.key] != nil {
		v.Shown = m.messageMarks(m.messages[dl.key])[p.label()]
	}
	waiting := slices.ContainsFunc(p.queue, func(q *postItem) bool { return m.posted(q) == dl })
	switch {
	case rd.phase == relayReceipt:
		v.State, v.Number = RelayReceipt, rd.n
		switch {
		case rd.lineage != p.lineage:
			v.Why = "It lost data since and began its log anew: what it had may be gone."
		case v.Shown == "dissented" || v.Shown == "failed":
			v.Why = "It gave its receipt, and showed this device an altered copy."
		case v.Shown == "silent":
			v.Why = "It gave its receipt, and has not shown it to this device since."
		case p.aside:
			v.Why = "It is set aside since, by its own signatures."
		case rd.digest:
			v.Why = "It has the digest: other relays carry the message."
		}
	case rd.phase == relayRefused:
		v.State, v.Why = RelayRefused, fmt.Sprintf("It refused it: %s.", rd.reason)
	case !p.listedRelay():
		v.State, v.Why = RelayNothing, "It is no relay of the group any more."
	case rd.phase == relayAside || p.aside:
		v.State, v.Why = RelaySetAside, "It is set aside by its own signatures: nothing is posted to it."
	case waiting && p.post.link == 0 && p.problem != "":
		v.State, v.Why = RelayWaiting, fmt.Sprintf("It is not connected (%s): the message waits for it in the outbox.", p.problem)
	case waiting && p.post.link == 0:
		v.State, v.Why = RelayWaiting, "It is not connected: the message waits for it in the outbox."
	case waiting:
		v.State, v.Why = RelayWaiting, "It has not given its receipt yet: the message is sent again until it does."
	default:
		v.State, v.Why = RelayNothing, "It gave no receipt, and the message is not in the outbox any more: that relay took nothing for too long, or a backup was restored."
	}
	return v
}

// memberOf tells what is known of the i-th member of the set.
func (m *Machine) memberOf(dl *delivery, st *seatState, i int) MemberDelivery {
	name := m.display(st)
	v := MemberDelivery{Seat: st.seat.String(), Member: name}
	r := m.delivery.readers[st.seat]
	var newest sign
	var reached, unchecked, digests []*path // read past it; those of them that carry its digest only
	for _, p := range m.paths {
		by, past, compared := r.past(p.index, &dl.relays[p.index])
		switch {
		case past && dl.relays[p.index].digest:
			digests = append(digests, p)
			continue
		case past && compared:
			v.Read = append(v.Read, p.label())
		case past:
			v.Unchecked = append(v.Unchecked, p.label())
			unchecked = append(unchecked, p)
		default:
			continue
		}
		if reached = append(reached, p); by.sent >= newest.sent {
			newest = by
		}
	}
	says := func(s sign) { v.Message, v.Time = hex.EncodeToString(s.id[:]), unixSeconds(s.sent) }
	opened, did := dl.opened[st.seat]
	moved := st.ann.Incarnation != dl.set.of[i]
	switch state := dl.set.states[i]; {
	case did:
		v.State, v.Why = MemberOpened, fmt.Sprintf("A message of %s names it among those that opened there.", name)
		says(opened)
	case state == slotContested:
		v.State, v.Why = MemberHeld, fmt.Sprintf("The key of %s was contested: nothing was sent to it.", name)
	case state == slotHeld:
		v.State, v.Why = MemberHeld, fmt.Sprintf("The key of %s was not agreed on yet: nothing was sent to it.", name)
	case state == slotNone:
		v.State, v.Why = MemberNoKey, fmt.Sprintf("First contact with %s was under way: %s cannot read it.", name, name)
	case len(v.Read)+len(v.Unchecked) > 0:
		v.State = MemberRead
		v.Why = fmt.Sprintf("A message of %s says that %s had been read past it. Whether it opened is not said.", name, labels(reached))
		if len(unchecked) > 0 {
			v.Why += fmt.Sprintf(" What it says of %s could not be compared here.", labels(unchecked))
		}
		says(newest)
	case len(digests) > 0:
		v.State, v.Why = MemberBehind, fmt.Sprintf("A message of %s says that %s had been read past it, where only the digest is. No relay that carries it had been read so far there.", name, labels(digests))
		says(r.heard)
	case r != nil && r.order > dl.order:
		v.State, v.Why = MemberBehind, fmt.Sprintf("The newest message of %s says that no relay had been read so far there.", name)
		says(r.heard)
	case moved:
		v.State, v.Why = MemberUnheard, fmt.Sprintf("%s goes on from a new installation since, which cannot read it. Whether the earlier one did is not known.", name)
	default:
		v.State, v.Why = MemberUnheard, fmt.Sprintf("Nothing was heard of %s since.", name)
	}
	if state := dl.set.states[i]; state == slotUnanswered && (v.State == MemberUnheard || v.State == MemberBehind) {
		v.Why += " First contact had no answer yet: it opens there when enough relays have brought their shares."
	}
	return v
}
