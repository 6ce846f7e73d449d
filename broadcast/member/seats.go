package member

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
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
	claimed bool          // that it names another's mailbox was told, in this opening
	since   time.Time     // when it became usable, in this opening
	waited  bool          // it was usable before this opening
	hellos  int           // sessions that it began
	session sessions

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

func admissionSubject(s wire.Seat) crossverify.Subject {
	return crossverify.Subject{Kind: crossverify.Open, ID: wire.Digest(s)}
}

func announcementSubject(s wire.Seat, version uint64) crossverify.Subject {
	return crossverify.Subject{Kind: crossverify.Signed, ID: wire.Digest(s), N: version}
}

func (m *Machine) isFounder(st *seatState) bool {
	return m.genesis != nil && st.seat == NewSeat(m.gid, m.genesis.Founder)
}

// report is what the comparison says of a seat's admission. The founder's
// stands in the genesis: a signed fact.
func (m *Machine) report(st *seatState) crossverify.Report {
	if m.isFounder(st) {
		if st.ann != nil {
			r := m.ledger.Report(announcementSubject(st.seat, st.ann.Version))
			r.Usable = r.Verdict != crossverify.Contested
			return r
		}
		return crossverify.Report{Status: make([]crossverify.Status, len(m.paths))}
	}
	return m.ledger.Report(admissionSubject(st.seat))
}

// usable: nothing is encrypted to a key before this holds.
func (m *Machine) usable(st *seatState) bool {
	if m.ledger == nil || st.ann == nil {
		return false
	}
	if st.own {
		return true
	}
	if m.ledger.Report(announcementSubject(st.seat, st.ann.Version)).Verdict == crossverify.Contested {
		return false
	}
	if m.isFounder(st) {
		return true
	}
	r := m.ledger.Report(admissionSubject(st.seat))
	adm := st.adms[r.Digest]
	return r.Usable && adm != nil && (st.ann.Version > 1 || adm.Announcement == st.digest)
}

// saveSeat writes a seat's record: announcement, admissions, flags and how the
// paths stand, so that the comparison survives.
func (m *Machine) saveSeat(st *seatState) {
	var b []byte
	var ann []byte
	if st.ann != nil {
		ann = st.ann.Append(nil)
	}
	b = wire.AppendBytes(b, ann)
	b = wire.AppendU32(b, uint32(len(st.adms)))
	for _, d := range sortedDigests(st.adms) {
		b = wire.AppendBytes(b, st.adms[d].Append(nil))
		var by uint16
		for i := range st.by {
			if st.by[i] == d {
				by |= 1 << i
			}
		}
		b = wire.AppendU16(b, by)
	}
	b = wire.AppendU64(b, st.order)
	b = wire.AppendBool(b, st.initial)
	b = wire.AppendBool(b, st.shown)
	b = wire.AppendBool(b, st.dispute)
	b = appendReport(b, m.ledger.Report(admissionSubject(st.seat)))
	version := uint64(0)
	if st.ann != nil {
		version = st.ann.Version
	}
	b = appendReport(b, m.ledger.Report(announcementSubject(st.seat, version)))
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
	for range r.Count(MaxRelays+1, 4) {
		a, err := ParseAdmission(r.Bytes(broadcast.MaxEntryValue))
		if err != nil {
			return err
		}
		d, by := a.Digest(), r.U16()
		st.adms[d] = a
		for i := range m.paths {
			if by&(1<<i) != 0 {
				m.admittedBy(st, i, d)
			}
		}
	}
	st.order = r.U64()
	st.initial, st.shown, st.dispute = r.Bool(), r.Bool(), r.Bool()
	d, status := readReport(r)
	ad, astatus := readReport(r)
	if err := r.Done(); err != nil {
		return err
	}
	if d != (wire.Digest{}) {
		m.ledger.Restore(admissionSubject(st.seat), d, status)
	}
	if st.ann != nil && ad != (wire.Digest{}) {
		m.ledger.Restore(announcementSubject(st.seat, st.ann.Version), ad, astatus)
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

// boardPage collects a board listing; when it is whole, it becomes the path's
// tree and its root must be the one that the relay signed.
func (m *Machine) boardPage(p *path, f proto.BoardPage) {
	if p.listed || !p.read.opened {
		return
	}
	if !m.ours(p, f.Statement) || f.Statement.Lineage != p.lineage {
		m.pathFailed(p, "board", fmt.Sprintf("relay %s showed a board under a statement that is not its own", p.label()))
		return
	}
	if len(p.read.board) == 0 {
		p.read.root = f.Statement.Root
	}
	p.read.board = append(p.read.board, f.Entries...)
	for _, e := range f.Entries {
		p.read.bytes += len(e.Value)
	}
	if len(p.read.board) > maxBoardEntries || p.read.bytes > maxBoardBytes || (f.More && len(f.Entries) == 0) {
		m.pathFailed(p, "board", fmt.Sprintf("relay %s shows a board of more than %d entries or %d bytes", p.label(), maxBoardEntries, maxBoardBytes))
		return
	}
	if f.Statement.Root != p.read.root || f.Statement.N < p.position && f.Statement.Root != p.root {
		// The board changed between pages: read it again.
		if p.read.tries++; p.read.tries < maxListings {
			m.listBoard(p)
			return
		}
		m.closeLink(p, p.read.link, fmt.Sprintf("the board of relay %s changes faster than it can be read", p.label()))
		return
	}
	if f.More {
		last := f.Entries[len(f.Entries)-1].Name
		m.send(p.read.link, proto.BoardList{After: last, Limit: proto.MaxBoardPage})
		return
	}
	var tree crossverify.Tree
	for _, e := range p.read.board {
		tree.Put(crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)})
	}
	if tree.Root() != f.Statement.Root {
		m.pathFailed(p, "board root", fmt.Sprintf("relay %s signed a board root that is not the root of what it shows", p.label()))
		return
	}
	m.checkHead(p, f.Statement)
	m.keepStatement(p, f.Statement)
	for _, l := range p.tree.Leaves() { // what a relay lost that lost data
		if _, ok := tree.Get(l.Name); !ok {
			m.del(m.key(keyBoard, []byte{byte(p.index)}, l.Name[:]))
		}
	}
	p.tree = tree
	p.listed, p.listedAt = true, f.Statement.N
	for _, e := range p.read.board {
		m.saveBoardEntry(p, e.Name, e.Version, crossverify.ValueDigest(e.Value))
	}
	board := p.read.board
	p.read.board = nil
	m.savePath(p)
	m.readBoard(p, board)
	m.absences(p)
}

// What one relay's board may make a member keep, and how often in a row it is
// read again since it changed meanwhile.
const (
	maxBoardEntries = 8192
	maxBoardBytes   = 32 << 20
	maxListings     = 16
)

func (m *Machine) saveBoardEntry(p *path, name wire.Digest, version uint64, value wire.Digest) {
	m.put(m.key(keyBoard, []byte{byte(p.index)}, name[:]), append(wire.AppendU64(nil, version), value[:]...))
}

func (m *Machine) loadBoard(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil || len(key) != 33 {
		return wire.ErrFormat
	}
	l := crossverify.Leaf{Name: wire.Digest(key[1:])}
	r := wire.NewReader(value)
	l.Version = r.U64()
	r.Fixed(l.Value[:])
	p.tree.Put(l)
	return r.Done()
}

// entry is a board write that the relay pushes.
func (m *Machine) entry(p *path, f proto.Entry) {
	value := crossverify.ValueDigest(f.Value)
	if !m.next(p, f.N, crossverify.BoardDigest(f.Name, f.Version, value), f.Root, f.Signature) {
		return
	}
	old, had := p.tree.Get(f.Name)
	if !had && p.tree.Len() >= maxBoardEntries {
		m.relayEvent(p, "full", "", fmt.Sprintf("Relay %s has a board of more than %d entries. What comes beyond is not read.", p.name(), maxBoardEntries))
		return
	}
	if !had || old.Version < f.Version {
		p.tree.Put(crossverify.Leaf{Name: f.Name, Version: f.Version, Value: value})
		m.saveBoardEntry(p, f.Name, f.Version, value)
	}
	m.checkRoot(p, f.N, f.Root)
	m.readBoard(p, []proto.BoardEntry{{Name: f.Name, Version: f.Version, Value: f.Value}})
}

// checkRoot compares the root that the relay signed with the root of what it
// showed. They differ when it hides an entry from this mailbox.
func (m *Machine) checkRoot(p *path, n uint64, root wire.Digest) {
	if !p.listed || n <= p.listedAt || p.tree.Len() >= maxBoardEntries || p.tree.Root() == root {
		return
	}
	p.stats[crossverify.Failed]++
	m.relayEvent(p, "root", "", fmt.Sprintf("Relay %s signed a board that is not the one it shows: it hides or invents entries. Other relays are compared as before. Nothing for you to do.", p.name()))
}

// readBoard opens entries and takes what is in them, in an order in which each
// can be checked: door entries, invites, announcements, admissions.
func (m *Machine) readBoard(p *path, items []proto.BoardEntry) {
	type opened struct {
		name  string
		value []byte
	}
	var entries []opened
	door := broadcast.NewBoardKeys(m.keyring.door.Expose(), p.ref.Key)
	var rest []proto.BoardEntry
	for _, e := range items {
		if name, value, err := door.Open(e.Name, e.Version, e.Value); err == nil {
			entries = append(entries, opened{name, value})
		} else {
			rest = append(rest, e)
		}
	}
	rank := func(o opened) int {
		return slices.IndexFunc([]string{"genesis", "welcome", "invite/", "announcement/", "admission/"}, func(s string) bool { return strings.HasPrefix(o.name, s) })
	}
	byRank := func(a, b opened) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	}
	slices.SortFunc(entries, byRank)
	for _, e := range entries {
		m.doorEntry(p, e.name, e.value)
	}
	if m.ledger == nil || len(m.keyring.epochs) == 0 {
		p.stash = append(p.stash, rest...)
		if len(p.stash) > 2*maxBoardEntries {
			p.stash, p.listed = nil, false
			m.pathFailed(p, "stash", fmt.Sprintf("relay %s writes its board over and over", p.label()))
			return
		}
		if p.stash == nil {
			p.stash = []proto.BoardEntry{}
		}
		return
	}
	entries = entries[:0]
	for _, k := range m.boardKeys(p) {
		left := rest[:0]
		for _, e := range rest {
			if name, value, err := k.Open(e.Name, e.Version, e.Value); err == nil {
				entries = append(entries, opened{name, value})
			} else {
				left = append(left, e)
			}
		}
		rest = left
	}
	if len(rest) > 0 {
		p.stats[crossverify.Failed] += uint64(len(rest))
		m.relayEvent(p, "sealed", "", fmt.Sprintf("Relay %s shows a board entry that no key of this group opens. It is ignored.", p.name()))
	}
	slices.SortFunc(entries, byRank)
	for _, e := range entries {
		kind, id, _ := strings.Cut(e.name, "/")
		raw, err := hex.DecodeString(id)
		if err != nil || len(raw) != 32 {
			continue
		}
		switch kind {
		case "announcement":
			m.sawAnnouncement(p, wire.Seat(raw), e.value)
		case "admission":
			m.sawAdmission(p, wire.Seat(raw), e.value)
		}
	}
}

// absences notes what a path that was just read does not show.
func (m *Machine) absences(p *path) {
	if m.ledger == nil || !p.listed {
		return
	}
	for _, st := range m.sortedSeats() {
		m.absentOn(p, st)
	}
}

// absentOn notes that a path that was asked for a seat does not show it: lag
// until the deadline, then silence.
func (m *Machine) absentOn(p *path, st *seatState) {
	if st.ann == nil || st.own {
		return
	}
	at := crossverify.Path(p.index)
	absent := func(s crossverify.Subject, name string) {
		if m.ledger.Report(s).Status[at] == crossverify.Awaiting && !m.shows(p, name+st.seat.String()) {
			m.ledger.Absent(m.now, at, s)
		}
	}
	if !m.isFounder(st) && len(st.adms) > 0 {
		absent(admissionSubject(st.seat), "admission/")
	}
	absent(announcementSubject(st.seat, st.ann.Version), "announcement/")
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

// shows tells whether a path's board has an entry of that name.
func (m *Machine) shows(p *path, name string) bool {
	for _, k := range m.boardKeys(p) {
		if _, ok := p.tree.Get(k.Name(name)); ok {
			return true
		}
	}
	return false
}

// boardKeys are those of a path under every epoch.
func (m *Machine) boardKeys(p *path) []broadcast.BoardKeys {
	for i := len(p.shelf); i < len(m.keyring.epochs); i++ {
		p.shelf = append(p.shelf, broadcast.NewBoardKeys(m.keyring.epochs[i].Key.Expose(), p.ref.Key))
	}
	return p.shelf
}

// doorEntry takes what a joiner reads first. All of it is signed by the
// founder or named by the group id, so the first valid copy counts.
func (m *Machine) doorEntry(p *path, name string, value []byte) {
	switch {
	case name == "genesis":
		m.sawGenesis(p, value)
	case name == "welcome" && m.genesis != nil:
		m.sawWelcome(p, value)
	case strings.HasPrefix(name, "invite/") && m.genesis != nil:
		rec, err := ParseInviteRecord(value)
		if err != nil || rec.Group != m.gid || rec.Verify(m.cfg.Verify, m.genesis.Founder) != nil {
			m.invalid(p, "an invitation record")
			return
		}
		m.addInvite(rec)
	}
}

func (m *Machine) invalid(p *path, what string) {
	p.stats[crossverify.Failed]++
	m.relayEvent(p, "invalid "+what, "", fmt.Sprintf("Relay %s shows %s whose signature does not hold. It is ignored.", p.name(), what))
}

func (m *Machine) addInvite(rec *InviteRecord) {
	id := InviteID(rec.Key)
	if m.invites[id] != nil {
		return
	}
	m.invites[id] = rec
	m.put(m.key(keyInvite, id[:]), rec.Append(nil))
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

func (m *Machine) loadInvite(_, value []byte) error {
	rec, err := ParseInviteRecord(value)
	if err == nil {
		m.invites[InviteID(rec.Key)] = rec
	}
	return err
}

func (m *Machine) sawAnnouncement(p *path, seat wire.Seat, value []byte) {
	a, err := ParseAnnouncement(value)
	if err != nil || a.Group != m.gid || a.Seat != seat {
		m.invalid(p, "an announcement")
		return
	}
	st := m.seatOf(seat)
	d := a.Digest()
	if st.ann == nil || a.Version > st.ann.Version || d != st.digest {
		previous := a.Signing
		if a.Version > 1 {
			if st.ann == nil {
				previous = keys.SigningPublic{} // the key of the version before is not known
			} else {
				previous = st.ann.Signing
			}
		}
		if a.Verify(m.cfg.Verify, previous) != nil || (st.ann != nil && a.Version < st.ann.Version) ||
			(st.ann != nil && a.Version == st.ann.Version+1 && a.Previous != st.digest) {
			if st.ann == nil || a.Version >= st.ann.Version {
				m.invalid(p, "an announcement")
			}
			return
		}
	}
	if st.ann == nil || a.Version > st.ann.Version {
		st.ann, st.digest = a, d
		if m.meta.Phase == phaseJoining {
			st.initial = true
		} else if st.order == 0 && !st.initial && !st.own {
			m.counters.order++
			st.order = m.counters.order
			m.saveCounters()
		}
	}
	m.ledger.Claim(m.now, crossverify.Path(p.index), announcementSubject(seat, a.Version), d)
	m.askedAll(st)
	m.seatChanged(st)
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
	st.adms[d] = a
	m.admittedBy(st, p.index, d)
	m.ledger.Claim(m.now, crossverify.Path(p.index), admissionSubject(a.Seat), d)
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
// case, marks, characters without a shape.
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
		}, st.ann.Name)
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
