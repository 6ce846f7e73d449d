package member_test

import (
	"slices"
	"strings"
	"testing"

	"parallax/broadcast/member"
	"parallax/internal/wire"
)

// fork is a history told by names: fay founded the group.
type fork struct {
	*history
	t *testing.T
}

var people = []string{"fay", "ann", "ben", "cyd", "dan", "eve", "gus"}

func newFork(t *testing.T) *fork { return &fork{history: newHistory(len(people)), t: t} }

func (f *fork) who(name string) int        { return slices.Index(people, name) }
func (f *fork) seat(name string) wire.Seat { return f.seats[f.who(name)] }
func (f *fork) name(s wire.Seat) string    { return people[slices.Index(f.seats, s)] }
func (f *fork) add(name string, role uint8) member.OperationBody {
	return member.OpAdd{Seat: f.seat(name), Role: role}
}
func (f *fork) remove(name string) member.OperationBody { return member.OpRemove{Seat: f.seat(name)} }
func (f *fork) role(name string, role uint8) member.OperationBody {
	return member.OpRole{Seat: f.seat(name), Role: role}
}

// roster takes the operations one by one and is asked after each, so that it
// goes on from standing views; one that is asked at the end says the same.
func (f *fork) roster(ops ...*member.Operation) *member.Roster {
	f.t.Helper()
	r := f.history.roster()
	for _, o := range ops {
		r.Add(o)
		r.State()
	}
	if err := equalRosters(r, f.history.roster(ops...)); err != nil {
		f.t.Errorf("asked all the time and asked at the end: %v", err)
	}
	return r
}

// does makes an operation by what its author knows; it must be a good one.
func (f *fork) does(name string, body member.OperationBody) *member.Operation {
	f.t.Helper()
	who := f.who(name)
	o := f.views[who].Next(f.keys[who], at, body)
	if err := f.views[who].Check(o); err != nil {
		f.t.Fatalf("%s, %T: %v", name, body, err)
	}
	f.made(who, o)
	return o
}

// meet: all that one of them knows, all know.
func (f *fork) meet(names ...string) {
	for range 2 {
		for _, a := range names {
			for _, b := range names {
				f.tells(f.who(a), f.who(b))
			}
		}
	}
}

// drawn compares the drawing of everything with a golden.
func (f *fork) drawn(want string) *member.State {
	f.t.Helper()
	r := f.roster(f.ops...)
	got := r.Draw(f.name)
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		f.t.Errorf("drawn:\n%s\nwant:\n%s", got, want)
	}
	ref := newReference(f.genesis, f.ops)
	if got, want := reportState(r.State()), ref.report(ref.accepted()); got != want {
		f.t.Errorf("the roster says\n%s\n\nthe rules say\n%s", got, want)
	}
	return r.State()
}

// is checks who has which role; names left out must be no members.
func (f *fork) is(s *member.State, roles map[string]uint8) {
	f.t.Helper()
	for _, name := range people {
		m, in := s.Member(f.seat(name))
		if role, want := roles[name]; in != want || in && m.Role != role {
			f.t.Errorf("%s: member %v %+v, want %v role %d", name, in, m, want, role)
		}
	}
}

const (
	reader = member.RoleReader
	plain  = member.RoleMember
	admin  = member.RoleAdmin
	owner  = member.RoleOwner
)

// twoAdmins: fay made ann and ben admins; everybody knows.
func twoAdmins(t *testing.T) *fork {
	f := newFork(t)
	f.does("fay", f.add("ann", admin))
	f.does("fay", f.add("ben", admin))
	f.meet("fay", "ann", "ben")
	return f
}

func TestForkConcurrentAdds(t *testing.T) {
	f := twoAdmins(t)
	f.does("ann", f.add("cyd", plain))
	f.does("ben", f.add("dan", plain))
	f.does("ben", f.add("cyd", reader)) // at once with ann's: the lower role
	f.meet("fay", "ann", "ben")
	f.does("fay", f.role("dan", admin))
	s := f.drawn(`
o      fay 1  add ann as admin, after genesis
o      fay 2  add ben as admin, after fay 1
| o    ann 1  add cyd as member, after fay 2
| | o  ben 1  add dan as member, after fay 2
| | o  ben 2  add cyd as reader, after ben 1
o | |  fay 3  make dan admin, after ann 1, ben 2, fay 2
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "cyd": reader, "dan": admin})
}

func TestForkMutualRemovalShorterPath(t *testing.T) {
	f := newFork(t)
	f.does("fay", f.add("ann", admin))
	f.meet("fay", "ann")
	f.does("ann", f.add("ben", admin))
	f.meet("ann", "ben", "fay")
	f.does("ann", f.remove("ben"))
	f.does("ben", f.remove("ann"))
	f.does("ben", f.add("cyd", plain))
	f.meet("fay", "ann", "ben")
	s := f.drawn(`
o      fay 1  add ann as admin, after genesis
| o    ann 1  add ben as admin, after fay 1
| o    ann 2  remove ben, after ann 1
| | x  ben 1  remove ann, after ann 1: void (struck)
| | x  ben 2  add cyd as member, after ben 1: void (struck)
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": admin})
	if len(s.Pending) != 1 || s.Pending[0].Seat != f.seat("cyd") || s.Pending[0].By != f.seat("ben") {
		t.Errorf("pending: %+v", s.Pending)
	}
	f.does("fay", member.OpAdopt{Seats: []member.Adopted{{Seat: f.seat("cyd"), Role: plain}}})
	s = f.roster(f.ops...).State()
	f.is(s, map[string]uint8{"fay": owner, "ann": admin, "cyd": plain})
	if len(s.Pending) > 0 {
		t.Error("an adopted seat waits")
	}
}

func TestForkMutualRemovalEqualPath(t *testing.T) {
	f := twoAdmins(t)
	f.does("ann", f.remove("ben"))
	f.does("ben", f.remove("ann"))
	f.does("ben", f.add("cyd", plain))
	f.meet("fay", "ann", "ben")
	s := f.drawn(`
o      fay 1  add ann as admin, after genesis
o      fay 2  add ben as admin, after fay 1
| =    ann 1  remove ben, after fay 2: draw
| | =  ben 1  remove ann, after fay 2: draw
| | x  ben 2  add cyd as member, after ben 1: void (struck)
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": plain, "ben": plain})
	if len(s.Disputes) != 2 || s.Disputes[0].Kind != member.DisputeDraw || len(s.Disputes[0].Seats) != 2 {
		t.Errorf("disputes: %+v", s.Disputes)
	}
	// The founder decides.
	f.does("fay", f.role("ann", admin))
	f.does("fay", f.remove("ben"))
	f.is(f.roster(f.ops...).State(), map[string]uint8{"fay": owner, "ann": admin})
}

// Three admins of one path in a ring, and one who only watches.
func TestForkRing(t *testing.T) {
	f := newFork(t)
	for _, name := range []string{"ann", "ben", "cyd", "dan"} {
		f.does("fay", f.add(name, admin))
	}
	f.meet("fay", "ann", "ben", "cyd", "dan")
	f.does("ann", f.remove("ben"))
	f.does("ben", f.remove("cyd"))
	f.does("cyd", f.role("ann", reader))
	f.does("cyd", f.remove("dan"))
	s := f.drawn(`
o        fay 1  add ann as admin, after genesis
o        fay 2  add ben as admin, after fay 1
o        fay 3  add cyd as admin, after fay 2
o        fay 4  add dan as admin, after fay 3
| =      ann 1  remove ben, after fay 4: draw
| | =    ben 1  remove cyd, after fay 4: draw
| | | =  cyd 1  make ann reader, after fay 4: draw
| | | x  cyd 2  remove dan, after cyd 1: void (struck)
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": plain, "ben": plain, "cyd": plain, "dan": admin})
}

func TestForkBackdated(t *testing.T) {
	f := twoAdmins(t)
	known := f.does("ann", f.add("cyd", plain))
	f.meet("fay", "ann", "ben")
	f.does("ben", f.remove("ann"))
	f.meet("fay", "ben")
	// ann, who was told nothing, goes on with old heads.
	f.does("ann", f.add("eve", admin))
	f.does("ann", f.role("cyd", admin))
	f.meet("ann", "eve", "cyd")
	f.does("eve", f.add("gus", plain))
	s := f.drawn(`
o        fay 1  add ann as admin, after genesis
o        fay 2  add ben as admin, after fay 1
| o      ann 1  add cyd as member, after fay 2
| x      ann 2  add eve as admin, after ann 1: void (struck)
| | o    ben 1  remove ann, after ann 1
| x |    ann 3  make cyd admin, after ann 2: void (struck)
| | | x  eve 1  add gus as member, after ann 3: void (path)
`)
	f.is(s, map[string]uint8{"fay": owner, "ben": admin, "cyd": plain})
	if cut := s.Removed[0].Cuts[0]; cut.Operation != known.Digest() {
		t.Error("the cut is not the newest operation that ben knew")
	}
	var pending []string
	for _, p := range s.Pending {
		pending = append(pending, f.name(p.Seat))
	}
	slices.Sort(pending)
	if !slices.Equal(pending, []string{"eve", "gus"}) {
		t.Errorf("pending: %v", pending)
	}
}

// A counter-removal with old heads takes nobody down who is senior.
func TestForkBackdatedAgainstOwner(t *testing.T) {
	f := twoAdmins(t)
	f.does("fay", f.remove("ben"))
	f.does("ben", f.remove("ann"))
	s := f.drawn(`
o    fay 1  add ann as admin, after genesis
o    fay 2  add ben as admin, after fay 1
| x  ben 1  remove ann, after fay 2: void (struck)
o |  fay 3  remove ben, after fay 2
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": admin})
}

func TestForkEquivocation(t *testing.T) {
	f := twoAdmins(t)
	f.does("ann", f.add("cyd", plain))
	f.meet("ann", "fay")
	before := f.roster(f.known(f.views[f.who("ann")])...)
	branch := f.does("ann", f.add("dan", admin))
	f.meet("ann", "fay", "dan")
	f.does("dan", f.add("gus", plain))
	// The second tale, for ben alone.
	f.views[f.who("ann")] = before
	f.does("ann", f.add("eve", plain))
	f.does("ann", f.add("gus", reader))
	f.meet("ann", "ben")
	f.is(f.views[f.who("ben")].State(), map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "cyd": plain, "eve": plain, "gus": reader})
	s := f.drawn(`
o      fay 1   add ann as admin, after genesis
o      fay 2   add ben as admin, after fay 1
| o    ann 1   add cyd as member, after fay 2
| x    ann 2   add dan as admin, after ann 1: void (forked)
| x    ann 2'  add eve as member, after ann 1: void (forked)
| x    ann 3   add gus as reader, after ann 2': void (forked)
| | x  dan 1   add gus as member, after ann 2: void (path)
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "cyd": plain})
	if m, _ := s.Member(f.seat("ann")); !m.Suspended {
		t.Error("ann is not suspended")
	}
	if len(s.Disputes) != 1 || s.Disputes[0].Kind != member.DisputeFork || len(s.Disputes[0].Operations) != 2 || s.Disputes[0].Settled {
		t.Errorf("disputes: %+v", s.Disputes)
	}
	everybody := f.roster(f.ops...)
	more := everybody.Next(f.keys[f.who("ann")], at, f.add("eve", plain))
	if err := everybody.Check(more); err == nil {
		t.Error("a suspended admin goes on")
	}
	if err := everybody.Check(everybody.Next(f.keys[f.who("ben")], at, f.role("ann", admin))); err == nil {
		t.Error("ben, no owner, pardons")
	}

	// Nor does an admin by taking the role and giving it back.
	byBen := retold(f, everybody)
	byBen.does("ben", f.role("ann", plain))
	byBen.does("ben", f.role("ann", admin))
	if m := byBen.views[2].Member(f.seat("ann")); m.Role != admin || !m.Suspended {
		t.Errorf("pardoned by an admin: %+v", m)
	}

	// An owner pardons: ann goes on; what was void stays so.
	g := retold(f, everybody)
	g.does("fay", g.role("ann", admin))
	g.meet("fay", "ann")
	g.does("ann", g.add("eve", plain))
	s = g.roster(g.ops...).State()
	g.is(s, map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "cyd": plain, "eve": plain})
	if len(s.Void) != 4 || !s.Disputes[0].Settled {
		t.Errorf("void %v, disputes %+v", s.Void, s.Disputes)
	}

	// Or one removes her and names the branch that counts: an owner may, one who
	// did not know the fork did, an admin who knew it may not.
	cut := member.OpRemove{Seat: f.seat("ann"), Cut: member.Cut{Operation: branch.Digest()}}
	sealed := map[string]uint8{"fay": owner, "ben": admin, "cyd": plain, "dan": admin, "gus": plain}
	g = retold(f, everybody)
	g.does("fay", cut)
	g.is(g.roster(g.ops...).State(), sealed)
	g = retold(f, everybody)
	g.does("ben", cut)
	g.is(g.roster(g.ops...).State(), map[string]uint8{"fay": owner, "ben": admin, "cyd": plain})
	f.meet("dan", "fay")
	f.does("fay", cut)
	f.is(f.roster(f.ops...).State(), sealed)
}

// retold is the same history for another end, with everybody knowing what r knows.
func retold(f *fork, r *member.Roster) *fork {
	h := *f.history
	h.ops = slices.Clone(f.ops)
	h.views = nil
	for range people {
		h.views = append(h.views, h.roster(h.known(r)...))
	}
	return &fork{history: &h, t: f.t}
}

// A fork that turns up after its author was removed takes nothing back: the
// removal had sealed what it knew.
func TestForkAfterRemoval(t *testing.T) {
	f := twoAdmins(t)
	before := f.roster(f.known(f.views[f.who("ann")])...)
	f.does("ann", f.add("cyd", plain))
	f.meet("ann", "ben", "fay")
	f.does("ben", f.remove("ann"))
	f.views[f.who("ann")] = before
	f.does("ann", f.add("eve", plain))
	s := f.drawn(`
o      fay 1   add ann as admin, after genesis
o      fay 2   add ben as admin, after fay 1
| x    ann 1   add eve as member, after fay 2: void (forked)
| o    ann 1'  add cyd as member, after fay 2
| | o  ben 1   remove ann, after ann 1'
`)
	f.is(s, map[string]uint8{"fay": owner, "ben": admin, "cyd": plain})
}

// A junior's removal of a senior falls where it would undo what the senior
// did to somebody at the same time, and stands where it does not.
func TestForkJuniorAgainstSenior(t *testing.T) {
	f := newFork(t)
	f.does("fay", f.add("ann", admin))
	f.meet("fay", "ann")
	f.does("ann", f.add("ben", admin))
	f.does("ann", f.add("cyd", plain))
	f.meet("fay", "ann", "ben")
	f.does("ben", f.remove("ann"))
	f.does("ann", f.add("dan", plain))
	s := f.drawn(`
o      fay 1  add ann as admin, after genesis
| o    ann 1  add ben as admin, after fay 1
| o    ann 2  add cyd as member, after ann 1
| x    ann 3  add dan as member, after ann 2: void (struck)
| | o  ben 1  remove ann, after ann 2
`)
	f.is(s, map[string]uint8{"fay": owner, "ben": admin, "cyd": plain})
	f.does("ann", f.remove("cyd"))
	s = f.drawn(`
o      fay 1  add ann as admin, after genesis
| o    ann 1  add ben as admin, after fay 1
| o    ann 2  add cyd as member, after ann 1
| o    ann 3  add dan as member, after ann 2
| | x  ben 1  remove ann, after ann 2: void (overruled)
| o |  ann 4  remove cyd, after ann 3
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "dan": plain})
}

// A knot in which one strike works only through what the other rests on: cyd
// (2) removes ann (1), who at the same time made dan (2), who removes cyd.
func TestForkKnotThroughPath(t *testing.T) {
	f := twoAdmins(t)
	f.does("ben", f.add("cyd", admin))
	f.meet("fay", "ann", "ben", "cyd")
	f.does("cyd", f.remove("ann"))
	f.does("ann", f.add("dan", admin))
	f.meet("ann", "dan")
	f.does("dan", f.remove("cyd"))
	s := f.drawn(`
o          fay 1  add ann as admin, after genesis
o          fay 2  add ben as admin, after fay 1
| o        ben 1  add cyd as admin, after fay 2
| | o      ann 1  add dan as admin, after ben 1
| | | x    cyd 1  remove ann, after ben 1: void (overruled)
| | | | o  dan 1  remove cyd, after ann 1
`)
	f.is(s, map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "dan": admin})
}

// Whoever is added by one who did not know the removal stays out; by one who
// knew it, comes back, with the role that this gives.
func TestForkReadmission(t *testing.T) {
	f := twoAdmins(t)
	f.does("fay", f.add("cyd", plain))
	f.meet("fay", "ann", "ben")
	f.does("ann", f.remove("cyd"))
	f.does("ben", f.remove("cyd"))
	f.does("ben", f.add("cyd", plain)) // knows ben's removal, not ann's
	s := f.roster(f.ops...).State()
	f.is(s, map[string]uint8{"fay": owner, "ann": admin, "ben": admin})
	if len(s.Removed) != 1 || len(s.Removed[0].Cuts) != 2 {
		t.Errorf("removed: %+v", s.Removed)
	}
	f.meet("fay", "ann", "ben")
	f.does("fay", f.add("cyd", reader))
	f.is(f.roster(f.ops...).State(), map[string]uint8{"fay": owner, "ann": admin, "ben": admin, "cyd": reader})
}
