package member_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// anySignature takes every signature: what is tested here is the merge.
func anySignature([32]byte, []byte, []byte) bool { return true }

// history is a group of people who each know some of the operations.
type history struct {
	genesis *member.Genesis
	gid     wire.GroupID
	keys    []keys.SigningPublic // the founder's first
	seats   []wire.Seat
	views   []*member.Roster
	ops     []*member.Operation // as they were made, refused ones included
	count   int
}

func newHistory(people int) *history {
	h := &history{genesis: exampleGenesis()}
	h.gid = h.genesis.ID()
	for i := range people {
		key := signer(byte(i + 1)).Public()
		h.keys = append(h.keys, key)
		h.seats = append(h.seats, member.NewSeat(h.gid, key))
		h.views = append(h.views, h.roster())
	}
	return h
}

func (h *history) roster(ops ...*member.Operation) *member.Roster {
	r := member.NewRoster(h.genesis, anySignature)
	for _, o := range ops {
		r.Add(o)
	}
	return r
}

// made takes what somebody made into the history and into its own view.
// What has no form is nothing that anybody could send.
func (h *history) made(who int, o *member.Operation) {
	if o.Check() != nil {
		return
	}
	h.ops = append(h.ops, o)
	h.views[who].Add(o)
}

// tells gives b all that a knows.
func (h *history) tells(a, b int) {
	for _, o := range h.ops {
		if h.views[a].Has(o.Digest()) {
			h.views[b].Add(o)
		}
	}
}

// known lists what a view has, in an order in which it can be added.
func (h *history) known(r *member.Roster) (list []*member.Operation) {
	for _, o := range h.ops {
		if r.Has(o.Digest()) {
			list = append(list, o)
		}
	}
	return list
}

// closure is an operation with all that it builds on, in order of making.
func (h *history) closure(tips ...*member.Operation) (list []*member.Operation) {
	in := refSet{}
	for _, o := range tips {
		in[o.Digest()] = true
	}
	for _, o := range slices.Backward(h.ops) {
		if in[o.Digest()] {
			list = append(list, o)
			for _, p := range parents(o) {
				in[p] = true
			}
		}
	}
	slices.Reverse(list)
	return list
}

// body is something that somebody with this view might do.
func (h *history) body(t *rapid.T, r *member.Roster) member.OperationBody {
	s := r.State()
	h.count++
	seat := func() wire.Seat { return rapid.SampledFrom(h.seats).Draw(t, "subject") }
	role := func() uint8 {
		return rapid.SampledFrom([]uint8{member.RoleAdmin, member.RoleAdmin, member.RoleAdmin, member.RoleMember, member.RoleReader, member.RoleOwner}).Draw(t, "role")
	}
	mark := wire.Hash("mark", wire.U64(uint64(h.count)))
	switch rapid.SampledFrom([]string{"add", "add", "add", "remove", "remove", "remove", "role", "role", "role", "adopt", "leave", "epoch", "relays", "policy", "spares", "invite", "revoke"}).Draw(t, "kind") {
	case "add":
		return member.OpAdd{Seat: seat(), Announcement: mark, Role: role()}
	case "remove":
		return member.OpRemove{Seat: seat()}
	case "role":
		return member.OpRole{Seat: seat(), Role: role()}
	case "adopt":
		b := member.OpAdopt{Seats: []member.Adopted{{Seat: seat(), Announcement: mark, Role: member.RoleMember}}}
		if rapid.Bool().Draw(t, "by itself") {
			b.Seats[0].Invite = [16]byte(mark[:])
			return b
		}
		if len(s.Pending) > 0 {
			b.Seats = nil
			for _, p := range s.Pending {
				b.Seats = append(b.Seats, member.Adopted{Seat: p.Seat, Announcement: p.Announcement, Role: member.RoleMember})
			}
		}
		return b
	case "leave":
		return member.OpLeave{}
	case "epoch":
		key := keys.NewSecret[keys.RoleEpoch](mark)
		return member.NewOpEpoch(h.gid, &key, s.Epochs, s.Relays)
	case "relays":
		list := slices.Clone(s.Relays)
		list[0].Key = keys.RelayPublic(mark)
		if len(s.Spares) > 0 && rapid.Bool().Draw(t, "a spare one") {
			list[0].Key = rapid.SampledFrom(s.Spares).Draw(t, "spare").Key
		}
		return member.OpRelays{Ordinal: s.Ordinal + 1, Relays: list}
	case "policy":
		p := s.Policy
		p.Deadline = time.Duration(h.count) * time.Second
		p.Mode = rapid.SampledFrom([]uint8{p.Mode, member.ModeOpen, member.ModeOpen, member.ModeApprove, member.ModeClosed}).Draw(t, "mode")
		return member.OpPolicy{Policy: p}
	case "spares":
		b := member.OpSpares{Spares: slices.Clone(s.Spares)}
		if len(b.Spares) > 2 || rapid.IntRange(0, 3).Draw(t, "none") == 0 {
			b.Spares = nil
		}
		b.Spares = append(b.Spares, member.Spare{Key: keys.RelayPublic(mark), Addrs: []string{"/memory/spare"}, Auto: rapid.Bool().Draw(t, "auto")})
		return b
	case "invite":
		return member.OpInvite{Record: member.InviteRecord{Group: h.gid, Key: keys.InvitePublic(mark), Uses: 1, PerHour: 1, Expires: at, Role: member.RoleMember, Mode: rapid.SampledFrom([]uint8{min(s.Policy.Mode, member.ModeApprove), member.ModeOpen, member.ModeApprove}).Draw(t, "by mode")}}
	default:
		b := member.OpRevoke{}
		if len(s.Invites) > 0 {
			b.Invite = rapid.SampledFrom(s.Invites).Draw(t, "invite").ID
		}
		return b
	}
}

// grow makes a random history: honest operations, operations of people who do
// not look at what they were told, backdated ones, second ones after one
// predecessor, and some that nobody is entitled to.
func grow(t *rapid.T, steps int) *history {
	h := newHistory(7)
	for i := 1; i < 4; i++ { // three admins to begin with, of one path or of two
		by := rapid.IntRange(0, i-1).Draw(t, "by")
		h.made(by, h.views[by].Next(h.keys[by], at, member.OpAdd{Seat: h.seats[i], Role: member.RoleAdmin}))
		for j := range h.views {
			h.tells(by, j)
		}
	}
	for range steps {
		who := rapid.IntRange(0, len(h.keys)-1).Draw(t, "who")
		switch rapid.SampledFrom([]string{"make", "make", "make", "make", "tell", "tell", "backdate", "backdate", "fork"}).Draw(t, "step") {
		case "tell":
			h.tells(rapid.IntRange(0, len(h.keys)-1).Draw(t, "from"), who)
		case "make":
			h.made(who, h.views[who].Next(h.keys[who], at, h.body(t, h.views[who])))
		case "backdate": // knows its own operations, and one more with its past
			var tips []*member.Operation
			for _, o := range h.known(h.views[who]) {
				if o.Author == h.keys[who] {
					tips = append(tips, o)
				}
			}
			if len(h.ops) > 0 {
				tips = append(tips, rapid.SampledFrom(h.ops).Draw(t, "old"))
			}
			old := h.roster(h.closure(tips...)...)
			h.made(who, old.Next(h.keys[who], at, h.body(t, old)))
		case "fork": // knows only some old operation and what that builds on
			if len(h.ops) > 0 {
				old := h.roster(h.closure(rapid.SampledFrom(h.ops).Draw(t, "old"))...)
				h.made(who, old.Next(h.keys[who], at, h.body(t, old)))
			}
		}
	}
	return h
}

// duel makes a history of one sort only: admins on paths of several lengths,
// who strike at each other and make new admins while they know little of what
// the others do.
func duel(t *rapid.T, steps int) *history {
	h := newHistory(7)
	for i := 1; i < 5; i++ {
		by := rapid.IntRange(0, i-1).Draw(t, "by")
		h.made(by, h.views[by].Next(h.keys[by], at, member.OpAdd{Seat: h.seats[i], Role: member.RoleAdmin}))
		for j := range h.views {
			h.tells(by, j)
		}
	}
	base := h.known(h.views[0])
	for range steps {
		who := rapid.IntRange(1, len(h.keys)-1).Draw(t, "who")
		tips := slices.Clone(base)
		for _, o := range h.ops[len(base):] {
			if o.Author == h.keys[who] || rapid.IntRange(0, 3).Draw(t, "heard") == 0 {
				tips = append(tips, o)
			}
		}
		r := h.roster(h.closure(tips...)...)
		s := rapid.SampledFrom(h.seats[1:]).Draw(t, "subject")
		var b member.OperationBody = member.OpRemove{Seat: s}
		if m, in := r.State().Member(s); !in || m.Role < member.RoleAdmin {
			b = member.OpAdd{Seat: s, Role: member.RoleAdmin}
			if in {
				b = member.OpRole{Seat: s, Role: member.RoleAdmin}
			}
		} else if rapid.Bool().Draw(t, "lower") {
			b = member.OpRole{Seat: s, Role: member.RoleMember}
		}
		h.made(who, r.Next(h.keys[who], at, b))
	}
	return h
}

// anyHistory is one or the other.
func anyHistory(t *rapid.T, most int) *history {
	steps := rapid.IntRange(0, most).Draw(t, "steps")
	if rapid.Bool().Draw(t, "duel") {
		return duel(t, steps/2)
	}
	return grow(t, steps)
}

// shuffled is the operations in an order drawn from a seed, some of them twice.
func shuffled(ops []*member.Operation, seed uint64) []*member.Operation {
	rnd := rand.New(rand.NewPCG(seed, 1))
	list := slices.Clone(ops)
	for _, o := range ops {
		if rnd.IntN(4) == 0 {
			list = append(list, o)
		}
	}
	rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func (h *history) names(s wire.Seat) string {
	return string(rune('A' + slices.Index(h.seats, s)))
}

func equalRosters(a, b *member.Roster) error {
	switch {
	case a.Digest() != b.Digest() || !slices.Equal(a.Heads(), b.Heads()):
		return errors.New("other digests or heads")
	case !reflect.DeepEqual(a.State(), b.State()):
		return fmt.Errorf("other states:\n%s\n\n%s", reportState(a.State()), reportState(b.State()))
	}
	return nil
}

// Any order, with repetitions, through whatever has to wait: one roster, and
// the one that the written rules give.
func TestRosterConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHistory(t, 24)
		ref := newReference(h.genesis, h.ops)
		set := ref.accepted()
		var first *member.Roster
		for range 3 {
			r := h.roster(shuffled(h.ops, rapid.Uint64().Draw(t, "order"))...)
			if r.Len() != len(set) || len(r.Missing()) > 0 || len(r.Waiting()) > 0 {
				t.Fatalf("%d operations accepted, %d missing, %d wait; the rules accept %d", r.Len(), len(r.Missing()), len(r.Waiting()), len(set))
			}
			if first == nil {
				first = r
				continue
			}
			if err := equalRosters(first, r); err != nil {
				t.Fatalf("%v\n%s", err, r.Draw(h.names))
			}
			if first.Draw(h.names) != r.Draw(h.names) {
				t.Fatal("drawn otherwise")
			}
		}
		if got, want := reportState(first.State()), ref.report(set); got != want {
			t.Fatalf("the roster says\n%s\n\nthe rules say\n%s\n\n%s", got, want, first.Draw(h.names))
		}
	})
}

// At each point two rosters with equal sets are equal, and with unequal ones
// have unequal digests: one is fed step by step and asked all the time, so that
// it goes on from standing views; the other is fed at once.
func TestRosterEqualAtEachPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHistory(t, 16)
		ref := newReference(h.genesis, h.ops)
		order := shuffled(h.ops, rapid.Uint64().Draw(t, "order"))
		step := h.roster()
		digests := map[wire.Digest]int{step.Digest(): 0}
		for i, o := range order {
			before := step.Len()
			accepted, err := step.Add(o)
			if step.Len() != before+len(accepted) || err != nil && len(accepted) > 0 {
				t.Fatalf("%d accepted, the roster grew from %d to %d", len(accepted), before, step.Len())
			}
			if at, ok := digests[step.Digest()]; ok && at != step.Len() {
				t.Fatal("one digest for two sets")
			}
			digests[step.Digest()] = step.Len()
			once := h.roster(shuffled(order[:i+1], uint64(i))...)
			if err := equalRosters(step, once); err != nil {
				t.Fatal(err)
			}
			set := refSet{}
			for _, o := range h.known(step) {
				set[o.Digest()] = true
			}
			if got, want := reportState(step.State()), ref.report(set); got != want {
				t.Fatalf("the roster says\n%s\n\nthe rules say\n%s\n\n%s", got, want, step.Draw(h.names))
			}
		}
	})
}

func voidSet(s *member.State) refSet {
	set := refSet{}
	for _, v := range s.Void {
		set[v.Operation] = true
	}
	return set
}

// What holds of every roster, whatever it merged.
func TestRosterInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHistory(t, 24)
		r := h.roster(h.ops...)
		s := r.State()
		void := voidSet(s)
		ref := newReference(h.genesis, h.ops)
		set := ref.accepted()
		w := ref.resolve(set)
		counts := func(d wire.Digest) bool { return set[d] && !void[d] }
		for d := range set {
			o, f := ref.ops[d], ref.facts(d)
			// No privilege without a delegation path from the genesis.
			for p := f.path; counts(d) && !isLeave(o); p = ref.facts(p).path {
				if p == (wire.Digest{}) {
					if last := append([]wire.Digest{d}, w.chain(d)...); ref.ops[last[len(last)-1]].Seat() != ref.founder {
						t.Fatalf("the path of %s does not begin with the founder", d.Short())
					}
					break
				}
				if !counts(p) {
					t.Fatalf("%s counts on the void %s\n%s", d.Short(), p.Short(), r.Draw(h.names))
				}
			}
			// What a standing strike did not know of its subject is void,
			// except its opponent in a draw.
			if !f.strike || void[d] {
				continue
			}
			for e := range set {
				if w.hits(d, e) && !void[e] && !(w.drawn[d] && w.drawn[e]) {
					t.Fatalf("%s stands and %s counts\n%s", d.Short(), e.Short(), r.Draw(h.names))
				}
			}
			// Who was removed is no member, unless admitted by one who knew.
			if b, ok := o.Body.(member.OpRemove); ok && !w.drawn[d] {
				if m, in := s.Member(b.Seat); in && !ref.facts(m.Admitted).past[d] {
					t.Fatalf("removed by %s, a member by %s\n%s", d.Short(), m.Admitted.Short(), r.Draw(h.names))
				}
			}
		}
		for _, seat := range h.seats {
			m, in := s.Member(seat)
			if one := r.Member(seat); in != (one != nil) || in && *one != *m {
				t.Fatalf("one by one seat %s is %+v, among all %+v", seat.Short(), one, m)
			}
		}
		for _, m := range s.Members {
			if m.Admitted != (wire.Digest{}) && void[m.Admitted] {
				t.Fatal("admitted by a void operation")
			}
		}
		admins := slices.ContainsFunc(s.Members, func(m member.Member) bool { return m.Role >= member.RoleAdmin })
		if s.Headless == admins {
			t.Fatal("headless with an admin, or an admin in a headless group")
		}
	})
}

// Learning more revives nothing that is void, as long as what stood still
// stands and no strike sealed a branch: what comes back, comes back since what
// made it void is void itself, or as a party of a draw that grew.
func TestRosterMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHistory(t, 24)
		if len(h.ops) == 0 {
			return
		}
		tips := rapid.SliceOfN(rapid.SampledFrom(h.ops), 1, 4).Draw(t, "known")
		early, late := h.roster(h.closure(tips...)...), h.roster(h.ops...)
		a, b := newReference(h.genesis, h.known(early)), newReference(h.genesis, h.ops)
		was, is := a.resolve(a.accepted()), b.resolve(b.accepted())
		voidEarly, voidLate := voidSet(early.State()), voidSet(late.State())
		for d := range was.set {
			f := a.facts(d)
			if f.strike && !voidEarly[d] && (voidLate[d] || was.drawn[d] != is.drawn[d]) {
				return // something that stood fell
			}
		}
		for d := range is.set {
			if b.facts(d).strike && !was.set[d] && len(b.forkPoints(is.set, subjectOf(b.ops[d]))) > 0 {
				return // may seal a branch
			}
		}
		for d := range voidEarly {
			if !voidLate[d] && !is.drawn[d] {
				t.Fatalf("%s came back\n%s\n%s", d.Short(), early.Draw(h.names), late.Draw(h.names))
			}
		}
	})
}

// A roster never takes what it refused, however much it learns: whether an
// author was entitled is settled by the operation's own past.
func TestRosterRefusalIsFinal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHistory(t, 20)
		r := h.roster()
		refused := refSet{}
		for _, o := range append(slices.Clone(h.ops), shuffled(h.ops, rapid.Uint64().Draw(t, "order"))...) {
			_, err := r.Add(o)
			if d := o.Digest(); err != nil && !errors.Is(err, member.ErrWaiting) {
				refused[d] = true
			} else if refused[d] {
				t.Fatalf("%s was refused and then taken", d.Short())
			}
		}
		for _, d := range slices.Collect(maps.Keys(refused)) {
			if r.Has(d) {
				t.Fatal("a refused operation is in the roster")
			}
		}
	})
}
