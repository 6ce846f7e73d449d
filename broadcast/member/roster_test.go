package member_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func TestRosterGenesis(t *testing.T) {
	g := exampleGenesis()
	r := member.NewRoster(g, keys.Ed25519)
	s := r.State()
	if m, in := s.Member(member.NewSeat(g.ID(), g.Founder)); len(s.Members) != 1 || !in || m.Role != owner || m.Path != 0 || m.Since != g.Created {
		t.Errorf("members: %+v", s.Members)
	}
	if len(s.Epochs) != 1 || s.Epochs[0].Operation != wire.Digest(g.ID()) || s.Epochs[0].Number != member.FirstEpoch {
		t.Errorf("epochs: %+v", s.Epochs)
	}
	if s.Headless || s.Ordinal != 0 || s.Policy != g.Policy || s.Voting(keys.Ed25519).Needed() != g.Voting(keys.Ed25519).Needed() || len(r.Heads()) != 0 {
		t.Errorf("state: %+v", s)
	}
	gid := g.ID()
	if r.Digest() != wire.Digest(specHash("roster/set", gid[:])) {
		t.Error("the digest of an empty roster is not H(roster/set, gid)")
	}
}

// What is not here yet is waited for, named, and counts when it comes.
func TestRosterWaits(t *testing.T) {
	f := twoAdmins(t)
	a := f.does("ann", f.add("cyd", plain))
	b := f.does("ann", f.add("dan", plain))
	r := f.roster()
	for _, o := range []*member.Operation{b, a, f.ops[1], b} {
		if accepted, err := r.Add(o); !errors.Is(err, member.ErrWaiting) || len(accepted) > 0 {
			t.Fatalf("%v, %v", accepted, err)
		}
	}
	if missing := r.Missing(); len(missing) != 1 || missing[0] != f.ops[0].Digest() {
		t.Errorf("missing: %v", missing)
	}
	if w := r.Waiting(); len(w) != 3 || w[0] != b {
		t.Errorf("waiting: %v", w)
	}
	if len(r.State().Members) != 1 {
		t.Error("what waits counts")
	}
	accepted, err := r.Add(f.ops[0])
	if err != nil || !slices.Equal(accepted, []*member.Operation{f.ops[0], f.ops[1], a, b}) || len(r.Missing()) > 0 || len(r.Waiting()) > 0 {
		t.Errorf("accepted %v: %v", accepted, err)
	}
	if err := equalRosters(r, f.roster(f.ops...)); err != nil {
		t.Error(err)
	}
	if r.Operation(a.Digest()) != a || r.Operation(wire.Digest{}) != nil || !r.Has(b.Digest()) {
		t.Error("an accepted operation is not found, or another is")
	}
	gid := f.gid
	head := b.Digest()
	if heads := r.Heads(); len(heads) != 1 || heads[0] != head || r.Digest() != wire.Digest(specHash("roster/set", gid[:], head[:])) {
		t.Error("the digest is not H(roster/set, gid, heads)")
	}
}

func TestRosterRefuses(t *testing.T) {
	f := twoAdmins(t)
	f.does("fay", f.add("cyd", plain))
	f.does("fay", f.add("eve", owner))
	f.meet("fay", "ann", "ben", "cyd", "eve")
	r := f.roster(f.ops...)
	next := func(name string, b member.OperationBody) *member.Operation { return r.Next(f.keys[f.who(name)], at, b) }
	foreign := next("fay", f.add("dan", plain))
	foreign.Group[0]++
	skipped := next("ann", f.add("dan", plain))
	skipped.Sequence, skipped.Previous = 7, f.ops[0].Digest()
	gap := next("fay", f.add("dan", plain))
	gap.Sequence++
	wrongCut := next("ann", f.remove("fay"))
	wrongCut.Body = member.OpRemove{Seat: f.seat("ben"), Cut: member.Cut{Operation: f.ops[0].Digest()}}
	noCut := next("ann", f.add("dan", plain))
	noCut.Body = member.OpRole{Seat: f.seat("ben"), Role: plain, Cut: member.Cut{Operation: fill(9)}}
	for name, c := range map[string]struct {
		op   *member.Operation
		want error
	}{
		"another group":           {foreign, member.ErrOtherGroup},
		"another's predecessor":   {skipped, member.ErrSequence},
		"a number left out":       {gap, member.ErrSequence},
		"cut elsewhere":           {wrongCut, member.ErrBadCut},
		"cut unknown":             {noCut, member.ErrBadCut},
		"a stranger adds":         {next("gus", f.add("dan", plain)), member.ErrNotEntitled},
		"a stranger leaves":       {next("gus", member.OpLeave{}), member.ErrNotEntitled},
		"a member adds":           {next("cyd", f.add("dan", reader)), member.ErrNotEntitled},
		"an admin makes owners":   {next("ann", f.add("dan", owner)), member.ErrNotEntitled},
		"an admin removes owners": {next("ann", f.remove("eve")), member.ErrNotEntitled},
		"an admin lowers owners":  {next("ann", f.role("eve", plain)), member.ErrNotEntitled},
		"an admin raises to own":  {next("ann", f.role("cyd", owner)), member.ErrNotEntitled},
		"an admin raises itself":  {next("ann", f.role("ann", owner)), member.ErrNotEntitled},
		"an admin makes policy":   {next("ann", member.OpPolicy{Policy: f.genesis.Policy}), member.ErrNotEntitled},
		"an admin makes spares":   {next("ann", member.OpSpares{}), member.ErrNotEntitled},
		"a member twice":          {next("ann", f.add("cyd", plain)), member.ErrNothingToDo},
		"adopt a member":          {next("ann", member.OpAdopt{Seats: []member.Adopted{{Seat: f.seat("cyd"), Role: plain}}}), member.ErrNothingToDo},
		"the role it has":         {next("ann", f.role("ben", admin)), member.ErrNothingToDo},
		"the role of nobody":      {next("ann", f.role("gus", admin)), member.ErrNothingToDo},
		"relay list 2":            {next("ann", member.OpRelays{Ordinal: 2, Relays: f.genesis.Relays}), wire.ErrFormat},
		"an epoch of another":     {next("ann", member.NewOpEpoch(f.gid, epochKey(1), []member.EpochHead{{Operation: fill(1)}}, f.genesis.Relays)), wire.ErrFormat},
		"an epoch too far":        {next("ann", member.NewOpEpoch(f.gid, epochKey(1), []member.EpochHead{{Operation: wire.Digest(f.gid), Number: 7 << 32}}, f.genesis.Relays)), wire.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.Check(c.op); !errors.Is(err, c.want) {
				t.Errorf("Check: %v, want %v", err, c.want)
			}
			before := r.Digest()
			if accepted, err := f.roster(f.ops...).Add(c.op); !errors.Is(err, c.want) || len(accepted) > 0 {
				t.Errorf("Add: %v, want %v", err, c.want)
			}
			if r.Digest() != before {
				t.Error("the roster changed")
			}
		})
	}
	unknown := next("ann", f.add("dan", plain))
	unknown.Heads = []wire.Digest{fill(0x33)}
	if err := r.Check(unknown); !errors.Is(err, member.ErrUnknownHeads) {
		t.Errorf("unknown heads: %v", err)
	}
	malformed := next("ann", f.add("dan", 9))
	if _, err := r.Add(malformed); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("malformed: %v", err)
	}
	f.does("ann", f.remove("cyd"))
	again := f.views[f.who("ann")].Next(f.keys[f.who("ann")], at, f.remove("cyd"))
	if err := f.views[f.who("ann")].Check(again); !errors.Is(err, member.ErrNothingToDo) {
		t.Errorf("removed twice: %v", err)
	}
}

// What builds on a refused operation is refused too, whichever comes first, and
// nobody is asked for it.
func TestRosterOnRefused(t *testing.T) {
	f := twoAdmins(t)
	bad := &member.Operation{Group: f.gid, Author: f.keys[f.who("gus")], Sequence: 1, Time: at, Body: member.OpLeave{}}
	on := f.views[0].Next(f.keys[0], at, f.add("dan", plain))
	on.Heads = append(on.Heads, bad.Digest())
	after := &member.Operation{Group: f.gid, Author: f.keys[0], Sequence: on.Sequence + 1, Previous: on.Digest(), Time: at, Body: member.OpLeave{}}
	r := f.roster(f.ops...)
	for _, o := range []*member.Operation{after, on} {
		if _, err := r.Add(o); !errors.Is(err, member.ErrWaiting) {
			t.Fatal(err)
		}
	}
	if _, err := r.Add(bad); !errors.Is(err, member.ErrNotEntitled) {
		t.Fatal(err)
	}
	if len(r.Waiting()) > 0 || len(r.Missing()) > 0 {
		t.Errorf("%d wait, %d missing", len(r.Waiting()), len(r.Missing()))
	}
	for _, o := range []*member.Operation{on, after} {
		if _, err := r.Add(o); !errors.Is(err, member.ErrOnRefused) {
			t.Errorf("%v", err)
		}
	}
}

// Nothing changes before a signature was checked; a forged copy neither counts
// nor keeps the true one out.
func TestRosterSignature(t *testing.T) {
	f := newFork(t)
	o := f.does("fay", f.add("ann", admin))
	r := member.NewRoster(f.genesis, keys.Ed25519)
	if _, err := r.Add(o); !errors.Is(err, member.ErrBadSignature) || r.Len() > 0 {
		t.Fatalf("unsigned: %v", err)
	}
	signed := *o
	signed.Sign(signer(2))
	if _, err := r.Add(&signed); !errors.Is(err, member.ErrBadSignature) {
		t.Fatalf("signed by another: %v", err)
	}
	signed.Sign(signer(1))
	if accepted, err := r.Add(&signed); err != nil || len(accepted) != 1 {
		t.Fatal(err)
	}
	late := &member.Operation{Group: f.gid, Author: f.keys[1], Sequence: 2, Previous: fill(1), Time: at, Body: member.OpLeave{}}
	if _, err := r.Add(late); !errors.Is(err, member.ErrBadSignature) || len(r.Missing()) > 0 {
		t.Errorf("an unsigned operation waits: %v", err)
	}
}

// The oldest that waits goes when there are too many, and comes back by being
// delivered again.
func TestRosterWaitingLimit(t *testing.T) {
	f := newFork(t)
	r := f.roster()
	stray := func(n uint64) *member.Operation {
		return &member.Operation{Group: f.gid, Author: f.keys[1], Sequence: 2, Previous: wire.Hash("x", wire.U64(n)), Time: at, Body: member.OpLeave{}}
	}
	for n := range uint64(member.MaxWaiting + 3) {
		r.Add(stray(n))
	}
	w := r.Waiting()
	if len(w) != member.MaxWaiting || w[0].Previous != stray(3).Previous || len(r.Missing()) != member.MaxWaiting {
		t.Errorf("%d wait, %d missing", len(w), len(r.Missing()))
	}
}

func TestRosterLastOwner(t *testing.T) {
	f := twoAdmins(t)
	r := f.roster(f.ops...)
	for _, b := range []member.OperationBody{member.OpLeave{}, f.role("fay", member.RoleAdmin)} {
		if err := r.Check(r.Next(f.keys[0], at, b)); !errors.Is(err, member.ErrLastOwner) {
			t.Errorf("%T: %v", b, err)
		}
	}
	f.does("fay", f.add("eve", owner))
	r = f.roster(f.ops...)
	o := r.Next(f.keys[0], at, member.OpLeave{})
	if err := r.Check(o); err != nil {
		t.Errorf("there is another owner: %v", err)
	}
	// Merged it is taken all the same, and what is left is defined: here two
	// owners leave at once, then the admins.
	f.meet("fay", "ann", "ben", "eve")
	f.does("fay", member.OpLeave{})
	f.does("eve", member.OpLeave{})
	s := f.roster(f.ops...).State()
	f.is(s, map[string]uint8{"ann": admin, "ben": admin})
	if s.Headless {
		t.Error("headless with two admins")
	}
	f.does("ann", f.remove("ben"))
	f.does("ben", f.remove("ann"))
	s = f.roster(f.ops...).State()
	f.is(s, map[string]uint8{"ann": plain, "ben": plain})
	if !s.Headless {
		t.Error("not headless without any admin")
	}
}

// Leaving needs nobody's leave: not even a removal or a fork makes it void.
func TestRosterLeave(t *testing.T) {
	f := twoAdmins(t)
	f.does("ann", f.role("ben", plain))
	f.does("ben", member.OpLeave{})
	last := len(f.ops) - 1
	swapped := append(slices.Clone(f.ops[:last-1]), f.ops[last], f.ops[last-1])
	for _, ops := range [][]*member.Operation{f.ops, swapped} {
		s := f.roster(ops...).State()
		f.is(s, map[string]uint8{"fay": owner, "ann": admin})
		if len(s.Removed) != 1 || !s.Removed[0].Left || len(s.Removed[0].Cuts) != 0 || len(s.Void) > 0 {
			t.Errorf("removed: %+v, void %+v", s.Removed, s.Void)
		}
	}
}

func TestRosterInvites(t *testing.T) {
	f := twoAdmins(t)
	record := func(n byte, by string) member.OpInvite {
		return member.OpInvite{Record: member.InviteRecord{Group: f.gid, Key: inviteKey(n).Public(), Uses: 5, PerHour: 2, Expires: at, Role: plain, Mode: member.ModeOpen}}
	}
	a := f.does("ann", record(1, "ann"))
	f.does("ann", record(2, "ann"))
	f.meet("fay", "ann", "ben")
	f.does("ben", member.OpRevoke{Invite: member.InviteID(inviteKey(2).Public())})
	f.does("fay", f.remove("ann"))
	f.does("ann", record(3, "ann")) // fay does not know it
	s := f.roster(f.ops...).State()
	if len(s.Invites) != 2 {
		t.Fatalf("invites: %+v", s.Invites)
	}
	for _, i := range s.Invites {
		if i.By != f.seat("ann") || i.ID != member.InviteID(i.Record.Key) || i.Revoked != (i.Record.Key == inviteKey(2).Public()) ||
			!i.Revoked && i.Operation != a.Digest() {
			t.Errorf("invite: %+v", i)
		}
	}
}

func TestRosterAdopt(t *testing.T) {
	f := twoAdmins(t)
	seats := []member.Adopted{{Seat: f.seat("cyd"), Announcement: fill(1), Invite: [16]byte{4}, Role: reader}, {Seat: f.seat("dan"), Announcement: fill(2), Invite: [16]byte{5}, Role: plain}}
	slices.SortFunc(seats, func(a, b member.Adopted) int { return slices.Compare(a.Seat[:], b.Seat[:]) })
	o := f.does("ann", member.OpAdopt{Seats: seats})
	s := f.roster(f.ops...).State()
	f.is(s, map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "cyd": reader, "dan": plain})
	if m, _ := s.Member(f.seat("cyd")); m.Admitted != o.Digest() || m.By != f.seat("ann") || m.Announcement != fill(1) || m.Invite != [16]byte{4} || !m.Since.Equal(at) || m.Path != 2 {
		t.Errorf("cyd: %+v", m)
	}
}

// Several lists at once: the shorter path, then the longer list of changes,
// then the smaller digest; and a person is told.
func TestRosterLists(t *testing.T) {
	f := newFork(t)
	f.does("fay", f.add("ann", admin))
	f.meet("fay", "ann")
	f.does("ann", f.add("ben", admin))
	f.meet("fay", "ann", "ben")
	list := func(n byte, ordinal uint32) member.OpRelays {
		l := manyRelays(1)
		l[0].Key = relayKey(n)
		return member.OpRelays{Ordinal: ordinal, Relays: l}
	}
	f.does("ben", list(1, 1))
	f.does("ben", list(2, 2))
	f.does("ann", list(3, 1))
	s := f.roster(f.ops...).State()
	if s.Ordinal != 1 || s.Relays[0].Key != relayKey(3) || len(s.Disputes) != 1 || s.Disputes[0].Kind != member.DisputeLists || len(s.Disputes[0].Seats) != 2 {
		t.Errorf("relays: %d %v, %+v", s.Ordinal, s.Relays, s.Disputes)
	}
	f.meet("fay", "ann", "ben")
	f.does("fay", list(4, 2))
	p := f.genesis.Policy
	p.Strict = true
	f.does("fay", member.OpPolicy{Policy: p})
	s = f.roster(f.ops...).State()
	if s.Ordinal != 2 || s.Relays[0].Key != relayKey(4) || len(s.Disputes) != 0 || s.Policy != p || s.Voting(keys.Ed25519).Needed() != 1 {
		t.Errorf("relays: %d %v, %+v, %+v", s.Ordinal, s.Relays, s.Policy, s.Disputes)
	}
	p.Strict, p.Quorum = false, 3 // more than the operators in force: those must do
	f.does("fay", member.OpPolicy{Policy: p})
	if s = f.roster(f.ops...).State(); s.Voting(keys.Ed25519).Needed() != 1 {
		t.Errorf("needed: %d of 1", s.Voting(keys.Ed25519).Needed())
	}
}

// TestRosterSpares: owners say what is in reserve; of two at once that of the shorter
// path holds, and people are told; a list of relays that came later uses them up.
func TestRosterSpares(t *testing.T) {
	f := twoAdmins(t)
	f.does("fay", f.add("eve", owner))
	f.meet("fay", "ann", "ben", "eve")
	spares := func(keys ...byte) (b member.OpSpares) {
		for _, n := range keys {
			b.Spares = append(b.Spares, member.Spare{Key: relayKey(n), Addrs: []string{"/memory/spare"}, Auto: n > 50})
		}
		return b
	}
	is := func(disputes int, keys ...byte) {
		t.Helper()
		s := f.roster(f.ops...).State()
		if want := spares(keys...).Spares; !reflect.DeepEqual(s.Spares, want) || len(s.Disputes) != disputes {
			t.Errorf("%+v, want %+v; %d disputes", s.Spares, want, len(s.Disputes))
		}
		for _, d := range s.Disputes {
			if d.Kind != member.DisputeLists || len(d.Seats) != 2 {
				t.Errorf("%+v", d)
			}
		}
	}
	is(0)
	f.does("eve", spares(42))
	f.does("fay", spares(42)) // the same beside it: nobody has to look at that
	is(0, 42)
	f.meet("fay", "ann", "ben", "eve")
	f.does("eve", spares(60, 41))
	is(0, 60, 41)
	f.does("fay", spares(42)) // beside it, from nearer to the genesis
	is(1, 42)
	f.meet("fay", "ann", "ben", "eve")
	f.does("eve", spares(43, 61, 62))
	is(0, 43, 61, 62)
	f.meet("fay", "ann", "ben", "eve")
	list := manyRelays(2)
	list[1].Key = relayKey(61)
	f.does("ann", member.OpRelays{Ordinal: 1, Relays: list})
	is(0, 43, 62)
	f.does("eve", spares(62)) // she did not know of that list
	is(0, 62)
	f.meet("fay", "ann", "ben", "eve")
	list = slices.Clone(list)
	list[1].Key = relayKey(44)
	f.does("ben", member.OpRelays{Ordinal: 2, Relays: list})
	is(0, 62)
	f.meet("fay", "ann", "ben", "eve")
	f.does("fay", spares(61, 44)) // both again: one was retired since, one is in use
	is(0, 61, 44)
	f.meet("fay", "ann", "ben", "eve")
	f.does("fay", f.remove("eve"))
	f.does("eve", spares(63)) // unknowing, and void
	is(0, 61, 44)
	f.does("fay", spares())
	is(0)
}

func TestRosterEpochs(t *testing.T) {
	f := twoAdmins(t)
	begin := func(name string, n byte) member.EpochHead {
		s := f.views[f.who(name)].State()
		b := member.NewOpEpoch(f.gid, epochKey(n), s.Epochs, s.Relays)
		o := f.does(name, b)
		return member.EpochHead{Operation: o.Digest(), Number: b.Number, Commitment: b.Commitment, Postings: b.Postings}
	}
	is := func(want ...member.EpochHead) {
		t.Helper()
		got := f.roster(f.ops...).State().Epochs
		slices.SortFunc(want, func(a, b member.EpochHead) int { return slices.Compare(a.Operation[:], b.Operation[:]) })
		if !slices.EqualFunc(got, want, func(a, b member.EpochHead) bool {
			return a.Operation == b.Operation && a.Number == b.Number && a.Commitment == b.Commitment && slices.Equal(a.Postings, b.Postings)
		}) {
			t.Errorf("epoch heads %+v, want %+v", got, want)
		}
	}
	a, b := begin("ann", 1), begin("ben", 2)
	is(a, b)
	if a.Number>>32 != 1 || b.Number>>32 != 1 || a.Number == b.Number {
		t.Errorf("numbers %x and %x", a.Number, b.Number)
	}
	f.meet("fay", "ann", "ben")
	c := begin("fay", 3)
	is(c)
	if c.Number>>32 != 2 {
		t.Errorf("number %x", c.Number)
	}
	// An epoch of a removed admin, begun beside its removal, is void: what it
	// would have merged is the head again.
	f.does("fay", f.remove("ann"))
	f.tells(0, f.who("ben"))
	f.tells(0, f.who("fay"))
	for _, o := range f.ops[:len(f.ops)-1] {
		f.views[f.who("ann")].Add(o)
	}
	begin("ann", 4)
	is(c)
}

func TestRemovedCounts(t *testing.T) {
	one, two := wire.Incarnation{1}, wire.Incarnation{2}
	r := member.Removed{Cuts: []member.Cut{{Incarnation: one, Sequence: 9}, {Incarnation: one, Sequence: 7}, {Incarnation: two, Sequence: 3}}}
	for _, c := range []struct {
		i    wire.Incarnation
		n    uint64
		want bool
	}{{one, 7, true}, {one, 8, false}, {two, 3, true}, {two, 4, false}} {
		if r.Counts(c.i, c.n) != c.want {
			t.Errorf("%v %d", c.i, c.n)
		}
	}
}

// More heads than an operation names: each names some, and nothing is lost.
func TestRosterManyHeads(t *testing.T) {
	f := newFork(t)
	var all []*member.Operation
	var people []keys.SigningPublic
	for i := range 100 {
		key := signer(byte(100 + i)).Public()
		people = append(people, key)
		all = append(all, f.does("fay", member.OpAdd{Seat: member.NewSeat(f.gid, key), Role: plain}))
	}
	r := f.roster(all...)
	for _, key := range people {
		o := f.views[0].Next(key, at, member.OpLeave{})
		if _, err := r.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.Heads()); n != 100 {
		t.Fatalf("%d heads", n)
	}
	for range 4 {
		o := r.Next(f.keys[0], at, member.OpRevoke{})
		if len(o.Heads) > member.MaxHeads {
			t.Fatalf("%d heads named", len(o.Heads))
		}
		if _, err := r.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.Heads()); n != 1 || len(r.State().Members) != 1 {
		t.Errorf("%d heads, %d members", n, len(r.State().Members))
	}
}
