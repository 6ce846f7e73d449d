package member

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"parallax/internal/wire"
)

// Draw draws the log as text, one line an operation, in an order that depends
// on the set alone: o counts, x is void, = stands as a draw. Each author has a
// column; name says how a seat is called.
func (r *Roster) Draw(name func(wire.Seat) string) string {
	order := make([]int, len(r.ops))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := r.ops[a], r.ops[b]
		return cmp.Or(cmp.Compare(x.height, y.height), strings.Compare(name(x.seat), name(y.seat)), compareDigests(x.digest, y.digest))
	})
	var columns []wire.Seat
	label := make([]string, len(r.ops))
	wide := 0
	seen := map[string]int{}
	for _, i := range order {
		n := r.ops[i]
		if !slices.Contains(columns, n.seat) {
			columns = append(columns, n.seat)
		}
		label[i] = fmt.Sprintf("%s %d", name(n.seat), n.op.Sequence)
		seen[label[i]]++
		label[i] += strings.Repeat("'", seen[label[i]]-1)
		wide = max(wide, len(label[i]))
	}
	v := r.all()
	var b strings.Builder
	started := map[wire.Seat]bool{}
	for _, i := range order {
		n := r.ops[i]
		started[n.seat] = true
		for _, c := range columns {
			switch {
			case c == n.seat:
				b.WriteString(v.mark(i))
			case started[c]:
				b.WriteString("|")
			default:
				b.WriteString(" ")
			}
			b.WriteString(" ")
		}
		var after []string
		if n.prev >= 0 {
			after = append(after, label[n.prev])
		}
		for _, h := range n.op.Heads {
			after = append(after, label[r.index[h]])
		}
		slices.Sort(after)
		if len(after) == 0 {
			after = []string{"genesis"}
		}
		fmt.Fprintf(&b, " %-*s  %s, after %s", wide, label[i], describe(n.op.Body, name), strings.Join(after, ", "))
		if c := v.cause(i); c != voidNot {
			fmt.Fprintf(&b, ": void (%s)", c)
		} else if v.drawn[i] {
			b.WriteString(": draw")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (v *rosterView) mark(i int) string {
	switch {
	case v.cause(i) != voidNot:
		return "x"
	case v.drawn[i]:
		return "="
	}
	return "o"
}

// describe says in a few words what an operation does.
func describe(body OperationBody, name func(wire.Seat) string) string {
	switch b := body.(type) {
	case OpInvite:
		return fmt.Sprintf("invite %x", InviteID(b.Record.Key))
	case OpAdd:
		return fmt.Sprintf("add %s as %s", name(b.Seat), roleName(b.Role))
	case OpAdopt:
		var who []string
		for i := range b.Seats {
			who = append(who, name(b.Seats[i].Seat))
		}
		return "adopt " + strings.Join(who, " and ")
	case OpRemove:
		return "remove " + name(b.Seat)
	case OpRole:
		return fmt.Sprintf("make %s %s", name(b.Seat), roleName(b.Role))
	case OpRelays:
		return fmt.Sprintf("relay list %d", b.Ordinal)
	case OpPolicy:
		return "policy"
	case OpSpares:
		return fmt.Sprintf("%s in reserve", plural(len(b.Spares), "relay"))
	case OpEpoch:
		return fmt.Sprintf("epoch %d", generation(b.Number))
	case OpRevoke:
		return fmt.Sprintf("revoke %x", b.Invite)
	}
	return "leave"
}

// roleName is a role in a word.
func roleName(role uint8) string {
	switch role {
	case RoleReader:
		return "reader"
	case RoleMember:
		return "member"
	case RoleAdmin:
		return "admin"
	case RoleOwner:
		return "owner"
	}
	return fmt.Sprintf("role %d", role)
}
