package member

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// seatState is what is known of one seat.
type seatState struct {
	seat    wire.Seat
	own     bool
	ann     *Announcement // newest valid one that any path showed
	digest  wire.Digest   // of ann
	adms    map[wire.Digest]*Admission
	by      []wire.Digest // the admission that each path shows; zero: none
	order   uint64        // of its coming; 0: it was there before us
	initial bool          // it was on a board when we joined: we start the session
	shown   bool          // its joining was told, or it was there before us
	dispute bool          // the dispute was told
	hidden  relayMask     // that these do not show it was told
	claimed bool          // that it names another's mailbox was told, in this opening
	since   time.Time     // when it became usable, in this opening
	annAt   time.Time     // when a later version of ann came, in this opening
	came    uint64        // order of the first message that may be sent again to it; 0: it was not usable yet
	spent   spent
	waited  bool // it was usable before this opening
	hellos  int  // sessions that it began
	session sessions
	out     *session // as sender finds it; review keeps it

	former   []formerAnnouncement // before ann, oldest first
	attempts []int64              // Unix seconds of the newest first contacts that we began
	kept     *keptHello           // of ours that has no answer yet
	epoch    uint64               // under which it sent last, in this opening
	repeat   bool                 // it asked for the kept one
	invite   [16]byte             // that it is in by, among Machine.unadopted
	stuck    time.Time            // since when what the seat sends does not open though it should

	unheard int // messages sent after it was removed, in this opening

	confirmed confirmation // by a person

	plain   string // of ann's name, as plainName has it
	plainOf *Announcement
}

type orphan struct {
	path int
	adm  *Admission
}

func (m *Machine) seatOf(s wire.Seat) *seatState {
	st := m.seats[s]
	if st == nil {
		m.current = nil
		st = &seatState{seat: s, adms: map[wire.Digest]*Admission{}}
		st.session.index = -1
		m.seats[s] = st
		m.prefixes[[8]byte(s[:8])] = append(m.prefixes[[8]byte(s[:8])], s)
	}
	return st
}

// sortedSeats makes every walk over seats deterministic.
func (m *Machine) sortedSeats() []*seatState {
	all := make([]*seatState, 0, len(m.seats))
	for _, st := range m.seats {
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b *seatState) int { return slices.Compare(a.seat[:], b.seat[:]) })
	return all
}

func (m *Machine) isFounder(st *seatState) bool {
	if m.genesis != nil && m.founderOf != m.genesis { // asked for every seat, again and again
		m.founder, m.founderOf = NewSeat(m.gid, m.genesis.Founder), m.genesis
	}
	return m.genesis != nil && st.seat == m.founder
}

// report is what the comparison says of a seat's admission. A member of the
// roster was admitted by somebody's signature, which does not need a quorum: of
// it the newest announcement is what paths may differ in. Two of them stand
// against each other whoever admitted the seat.
func (m *Machine) report(st *seatState) crossverify.Report {
	if m.twoSuccessors(st) || m.standing(st.seat).in {
		if st.ann != nil {
			r := m.ledger.Report(crossverify.Announcement(st.seat, st.ann.Version))
			r.Usable = r.Verdict != crossverify.Contested
			return r
		}
		return crossverify.Report{Status: make([]crossverify.Status, len(m.paths))}
	}
	_, r := m.admission(st)
	return r
}

// admission is how a seat is in that nobody adopted yet, or would be: each admission
// is compared by itself, so that what others show under the seat's name takes nothing
// from it. Of several it is one that lets in, then the one that most operators show,
// then the smallest digest. nil: no path shows any.
func (m *Machine) admission(st *seatState) (best *Admission, of crossverify.Report) {
	if len(st.adms) == 0 {
		return nil, m.ledger.Report(crossverify.Admission(wire.Digest{}))
	}
	rank, digest := -1, wire.Digest{}
	for d, a := range st.adms {
		r := m.ledger.Report(crossverify.Admission(d))
		at := r.Operators
		if r.Usable && m.letsIn(st, a) {
			at += len(m.paths) + 1
		}
		if at > rank || at == rank && compareDigests(d, digest) < 0 {
			best, of, rank, digest = a, r, at, d
		}
	}
	if len(st.adms) > 1 { // a path that failed shows another one
		of.Status = slices.Clone(of.Status)
		for i, s := range of.Status {
			if s == crossverify.Failed {
				of.Status[i] = crossverify.Dissented
			}
		}
	}
	return best, of
}

// letsIn tells whether an admission is of an invite that an admin issued and none
// revoked, and of the seat's announcement: then a quorum that shows it is enough.
func (m *Machine) letsIn(st *seatState, a *Admission) bool {
	return st.ann != nil && m.live[a.Invite] && (st.ann.Version > 1 || a.Announcement == st.digest)
}

// usable: nothing is encrypted to a key before this holds.
func (m *Machine) usable(st *seatState) bool {
	if m.ledger == nil || st.ann == nil {
		return false
	}
	if st.own {
		return true
	}
	if m.twoSuccessors(st) {
		return false
	}
	switch s := m.standing(st.seat); {
	case s.in:
		return m.admittedAs(st, s)
	case s.gone || s.pending >= 0:
		return false
	}
	return m.complete(st)
}

// complete tells whether a seat's admission counts without anybody having
// adopted it: a quorum shows it, and its invite is one that an admin issued and
// none revoked.
func (m *Machine) complete(st *seatState) bool {
	adm, r := m.admission(st)
	return adm != nil && r.Usable && m.letsIn(st, adm) && m.leavesRoom(st, adm)
}

// leavesRoom tells whether an invitation is not used up without a seat. Every relay
// counts uses by itself, and a quorum is enough to be in: newcomers who each go by
// other relays, or by one that does not count, could be more than it allows. Those
// adopted count, and of the others those that came here before.
func (m *Machine) leavesRoom(st *seatState, adm *Admission) bool {
	rec, n := m.invites[adm.Invite], m.adopted[adm.Invite]
	if rec == nil || n+m.unadoptedBy[adm.Invite] < int(rec.Uses) {
		return true
	}
	_, here := m.unadopted[st.seat]
	for _, o := range m.unadopted {
		if o != st && o.invite == adm.Invite && (!here || cameBefore(o, st) < 0) {
			n++
		}
	}
	return n < int(rec.Uses)
}

// setUnadopted notes whether a seat is in by an admission alone, and by which invite.
func (m *Machine) setUnadopted(st *seatState, is bool) {
	if m.unadopted[st.seat] != nil {
		delete(m.unadopted, st.seat)
		m.unadoptedBy[st.invite]--
	}
	if adm, _ := m.admission(st); is && adm != nil {
		st.invite = adm.Invite
		m.unadopted[st.seat] = st
		m.unadoptedBy[st.invite]++
	}
}

// cameBefore orders seats by when they became usable here.
func cameBefore(a, b *seatState) int {
	return cmp.Or(cmp.Compare(a.came-1, b.came-1), cmp.Compare(a.order, b.order), compareSeats(a.seat, b.seat))
}

// usedUp tells whether a seat would be in if its invitation were not used up.
func (m *Machine) usedUp(st *seatState) bool {
	adm, r := m.admission(st)
	s := m.standing(st.seat)
	return adm != nil && r.Usable && !s.in && !s.gone && s.pending < 0 && m.letsIn(st, adm) && !m.leavesRoom(st, adm)
}

// saveSeat writes a seat's record: announcement, admissions, flags and how the
// paths stand, so that the comparison survives.
func (m *Machine) saveSeat(st *seatState) {
	var ann []byte
	if st.ann != nil {
		ann = st.ann.Append(nil)
	}
	b := make([]byte, 0, len(ann)+512)
	b = wire.AppendBytes(b, ann)
	b = wire.AppendU32(b, uint32(len(st.adms)))
	for _, d := range sortedDigests(st.adms) {
		b = wire.AppendBytes(b, st.adms[d].Append(nil))
		var by relayMask
		for i := range st.by {
			if st.by[i] == d {
				by |= 1 << i
			}
		}
		b = appendReport(wire.AppendU64(b, uint64(by)), m.ledger.Report(crossverify.Admission(d)))
	}
	b = wire.AppendU64(b, st.order)
	b = wire.AppendBool(b, st.initial)
	b = wire.AppendBool(b, st.shown)
	b = wire.AppendBool(b, st.dispute)
	version := uint64(0)
	if st.ann != nil {
		version = st.ann.Version
	}
	b = appendReport(b, m.ledger.Report(crossverify.Announcement(st.seat, version)))
	b = appendFormer(b, st.former)
	b = append(b, byte(len(st.attempts)))
	for _, at := range st.attempts {
		b = wire.AppendU64(b, uint64(at))
	}
	stuck := uint64(0)
	if !st.stuck.IsZero() {
		stuck = uint64(st.stuck.Unix())
	}
	b = wire.AppendU64(b, stuck)
	m.put(m.key(keySeat, st.seat[:]), b)
}

func appendReport(b []byte, r crossverify.Report) []byte {
	b = append(b, r.Digest[:]...)
	b = append(b, byte(len(r.Status)))
	for _, s := range r.Status {
		b = append(b, byte(s))
	}
	return b
}

func readReport(r *wire.Reader) (d wire.Digest, status []crossverify.Status) {
	r.Fixed(d[:])
	for _, s := range r.Raw(int(r.U8())) {
		status = append(status, crossverify.Status(s))
	}
	return d, status
}

func (m *Machine) loadSeat(key, value []byte) error {
	if len(key) != 32 || m.ledger == nil {
		return wire.ErrFormat
	}
	st := m.seatOf(wire.Seat(key))
	r := wire.NewReader(value)
	if raw := r.Bytes(broadcast.MaxEntryValue); len(raw) > 0 {
		a, err := ParseAnnouncement(raw)
		if err != nil {
			return err
		}
		st.ann, st.digest = a, a.Digest()
	}
	for range r.Count(MaxPaths+1, 4) {
		a, err := ParseAdmission(r.Bytes(broadcast.MaxEntryValue))
		if err != nil {
			return err
		}
		d, by := a.Digest(), relayMask(r.U64())
		st.adms[d] = a
		for i := range m.paths {
			if by.has(i) {
				m.admittedBy(st, i, d)
			}
		}
		of, status := readReport(r)
		if m.admissions[d] = st.seat; of == d {
			m.ledger.Restore(crossverify.Admission(d), d, status, m.ledger.Era())
		}
	}
	st.order = r.U64()
	st.initial, st.shown, st.dispute = r.Bool(), r.Bool(), r.Bool()
	ad, astatus := readReport(r)
	st.former = readFormer(r)
	n := int(r.U8())
	if n > maxAttempts {
		return wire.ErrTooLong
	}
	for range n {
		st.attempts = append(st.attempts, int64(r.U64()))
	}
	if stuck := r.U64(); stuck != 0 {
		st.stuck = time.Unix(int64(stuck), 0)
	}
	if err := r.Done(); err != nil {
		return err
	}
	if st.ann != nil && (ad != (wire.Digest{}) || slices.Contains(astatus, crossverify.Dissented)) { // none: two stood against each other
		m.ledger.Restore(crossverify.Announcement(st.seat, st.ann.Version), ad, astatus, m.ledger.Era())
	}
	return nil
}

// maxOrphans is how many admissions of one seat wait for their invite, for
// each path.
const maxOrphans = 4

func sortedDigests[T any](m map[wire.Digest]T) []wire.Digest {
	ds := make([]wire.Digest, 0, len(m))
	for d := range m {
		ds = append(ds, d)
	}
	slices.SortFunc(ds, func(a, b wire.Digest) int { return slices.Compare(a[:], b[:]) })
	return ds
}

// What one relay's board may make a member keep, and how often in a row it is
// read again since it changed meanwhile.
const (
	maxBoardEntries = 8192
	maxBoardBytes   = 32 << 20
	maxListings     = 16
)

// absences notes what a path that was just read does not show.
func (m *Machine) absences(p *path) {
	if m.ledger == nil || !p.listed {
		return
	}
	for _, st := range m.sortedSeats() {
		m.absentOn(p, st)
	}
	for _, l := range m.log {
		m.absentOperation(p, l)
	}
}

// absentOn notes that a path that was asked for a seat does not show it: lag
// until the deadline, then silence.
func (m *Machine) absentOn(p *path, st *seatState) {
	if st.ann == nil || st.own || !p.listedRelay() {
		return
	}
	at := crossverify.Path(p.index)
	absent := func(s crossverify.Subject, name string) {
		if m.ledger.Report(s).Status[at] == crossverify.Awaiting && m.shownVersion(p, name+st.seat.String()) < max(1, s.N) {
			m.ledger.Absent(m.now, at, s)
		}
	}
	for d := range st.adms {
		absent(crossverify.Admission(d), "admission/")
	}
	absent(crossverify.Announcement(st.seat, st.ann.Version), "announcement/")
}

// askedAll notes for a seat that every path was asked for it: a member reads
// all of them, a joiner those whose board it has.
func (m *Machine) askedAll(st *seatState) {
	for _, p := range m.paths {
		if p.listed || m.isMember() {
			m.absentOn(p, st)
		}
	}
}

// addInvite makes an invite known by which seats may have come.
func (m *Machine) addInvite(rec *InviteRecord) {
	id := InviteID(rec.Key)
	if m.invites[id] != nil {
		return
	}
	m.invites[id] = rec
	for _, s := range m.sortedSeats() {
		waiting := m.orphans[s.seat]
		delete(m.orphans, s.seat)
		for _, o := range waiting {
			p := m.paths[o.path]
			p.orphans--
			m.takeAdmission(p, o.adm)
			m.savePath(p)
		}
	}
}

func (m *Machine) sawAdmission(p *path, seat wire.Seat, value []byte) {
	a, err := ParseAdmission(value)
	if err != nil || a.Group != m.gid || a.Seat != seat {
		m.invalid(p, "an admission")
		return
	}
	m.takeAdmission(p, a)
}

func (m *Machine) takeAdmission(p *path, a *Admission) {
	rec := m.invites[a.Invite]
	if rec == nil {
		n := 0
		for _, o := range m.orphans[a.Seat] {
			if o.path == p.index {
				n++
			}
		}
		if n < maxOrphans {
			m.seatOf(a.Seat)
			m.orphans[a.Seat] = append(m.orphans[a.Seat], orphan{p.index, a})
			p.orphans++
			m.savePath(p)
		}
		return
	}
	if a.Verify(m.cfg.Verify, rec.Key) != nil {
		m.invalid(p, "an admission")
		return
	}
	st := m.seatOf(a.Seat)
	d := a.Digest()
	st.adms[d], m.admissions[d] = a, a.Seat
	m.admittedBy(st, p.index, d)
	m.ledger.Claim(m.now, crossverify.Path(p.index), crossverify.Admission(d), d)
	m.showsAnother(st)
	m.askedAll(st)
	m.seatChanged(st)
}

// admittedBy notes which admission a path shows: one for each path is kept, so
// that no path can crowd out what the others show.
func (m *Machine) admittedBy(st *seatState, path int, d wire.Digest) {
	if st.by == nil {
		st.by = make([]wire.Digest, len(m.paths))
	}
	old := st.by[path]
	st.by[path] = d
	if old != (wire.Digest{}) && !slices.Contains(st.by, old) {
		delete(st.adms, old)
		delete(m.admissions, old)
		m.ledger.Forget(crossverify.Admission(old))
	}
}

// showsAnother notes for each admission of a seat which paths answered with another.
func (m *Machine) showsAnother(st *seatState) {
	if len(st.adms) < 2 {
		return
	}
	for d := range st.adms {
		for i, shown := range st.by {
			if shown != d && shown != (wire.Digest{}) {
				m.ledger.Fail(m.now, crossverify.Path(i), crossverify.Admission(d))
			}
		}
	}
}

// namesakes are other seats that carry the same name, as people see it.
func (m *Machine) namesakes(st *seatState) []*seatState {
	var same []*seatState
	for _, o := range m.seats {
		if o != st && o.ann != nil && st.ann != nil && o.plainName() == st.plainName() {
			same = append(same, o)
		}
	}
	slices.SortFunc(same, func(a, b *seatState) int { return slices.Compare(a.seat[:], b.seat[:]) })
	return same
}

// plainName is the name without what people do not see or easily overlook:
// case, marks, characters without a shape, and other ways to write a character
// (Unicode's compatibility decomposition).
func (st *seatState) plainName() string {
	if st.plainOf != st.ann {
		st.plainOf = st.ann
		st.plain = strings.Map(func(r rune) rune {
			switch {
			case unicode.In(r, unicode.Cf, unicode.Mn, unicode.Me, unicode.Variation_Selector), strings.ContainsRune("\u115f\u1160\u3164\uffa0", r):
				return -1
			case unicode.IsSpace(r):
				return ' '
			}
			return unicode.ToLower(unicode.ToUpper(r))
		}, norm.NFKD.String(st.ann.Name))
	}
	return st.plain
}

// display is the name, told apart where two seats carry one.
func (m *Machine) display(st *seatState) string {
	if st.ann == nil {
		return "seat " + st.seat.Short()
	}
	same := m.namesakes(st)
	if len(same) == 0 && !strings.ContainsAny(st.ann.Name, "[]") {
		return st.ann.Name
	}
	id := st.seat.String()
	n := len(st.seat.Short())
	for _, o := range same { // somebody may have drawn keys until the beginnings were one
		for n < len(id) && o.seat.String()[:n] == id[:n] {
			n *= 2
		}
	}
	return fmt.Sprintf("%s [%s]", st.ann.Name, id[:n])
}
