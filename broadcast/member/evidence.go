package member

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// How evidence reaches every member. Whoever takes it shares it, after a jitter in
// which others may. Every view says which relays its sender has set aside; so
// whoever was cut off then, or joined later, shows with its next message that it
// lacks the evidence, and is sent it again (docs/protocol.md section 13).
const (
	// maxReshares is how often one seat that lacks it has evidence about one
	// relay shared again, in one opening.
	maxReshares = 4
	// reshareAfter is how long evidence that was just shared may be on its way.
	reshareAfter = 10 * time.Second
	// enoughShares is how many others, sharing it first, make one's own sharing
	// needless: one of them may reach fewer members, such as a newcomer.
	enoughShares = 3
	// promptShares is the size of the group up to which nobody waits longer than
	// ExchangeJitter before sharing; in greater ones the wait grows with it.
	promptShares = 32
)

// exchangeDue is a statement exchange that waits for its jitter: a statement
// that another member's view differs from, or evidence.
type exchangeDue struct {
	at       time.Time
	path     int
	differ   crossverify.Statement
	evidence *evidenceRecord // nil: differ
	lineage  bool            // for members in another lineage: the newest statement known
	enough   int             // so many others, sharing it first, make this one needless
}

// shareJitter is the wait before evidence is shared.
func (m *Machine) shareJitter() time.Duration {
	return m.jitter(m.cfg.Limits.ExchangeJitter) * time.Duration(max(promptShares, len(m.seats))) / promptShares
}

func (m *Machine) runExchanges() {
	if !m.isMember() || m.starting.underWay() || m.silent() {
		return
	}
	due := m.exchange
	m.exchange = nil
	for _, e := range due {
		if m.now.Before(e.at) {
			m.exchange = append(m.exchange, e)
			continue
		}
		p := m.paths[e.path]
		var x Exchange
		switch {
		case e.evidence != nil:
			x.Evidence, p.shared = []string{e.evidence.Text}, m.now
			m.putEvidence(e.evidence)
		case e.lineage:
			s, due := m.lineageDue(p)
			if !due {
				continue
			}
			if !m.drained() { // a newer view of theirs may be on its way
				e.at = m.now.Add(lineageWait)
				m.exchange = append(m.exchange, e)
				continue
			}
			x.Statements = []crossverify.Statement{s}
		case p.aside || m.shared[e.differ.H]:
			continue
		default:
			x.Statements, m.shared[e.differ.H] = []crossverify.Statement{e.differ}, true
		}
		m.sendBundle(KindStatements, x.Append(nil))
	}
}

// sawExchange takes a statement exchange of a member. Nothing in it counts for
// more than the relay's own signatures.
func (m *Machine) sawExchange(body []byte) {
	x, err := ParseExchange(body)
	if err != nil {
		return
	}
	for _, text := range x.Evidence {
		e, err := crossverify.ParseEvidence(text)
		if err != nil {
			continue
		}
		if p := m.pathOf(e.First.Relay); p != nil && e.First.Channel == p.channel && m.convict(p, e) {
			m.wasShared(p)
		}
	}
	for i, s := range x.Statements {
		p := m.pathOf(s.Relay)
		if p == nil || !m.ours(p, s) {
			continue
		}
		for _, o := range x.Statements[:i] { // of numbers that this member never read, too
			if e, ok := crossverify.FindFork(o, s); ok {
				m.convict(p, e)
			}
		}
		m.sawStatement(p, s)
		m.lineageShared(p, s)
		if own, ok := p.heads[s.N]; ok && s.Lineage == p.lineage && own.H == s.H {
			m.shared[s.H] = true
		}
	}
}

// putEvidence puts evidence on the boards, where newcomers read it before they
// decide anything: one entry for a relay, under the seat that puts it there.
func (m *Machine) putEvidence(rec *evidenceRecord) {
	accused := m.paths[rec.Path]
	if rec.Put || len(rec.Text) > broadcast.MaxEntryValue || m.meta.Superseded {
		return
	}
	rec.Put = true
	m.saveEvidence(rec)
	for _, p := range m.paths {
		if p.keepsBoard() {
			m.putEntry(p, epochKey, evidenceEntry(m.self, accused), m.pageVersion(1), []byte(rec.Text), m.keyring.owner)
		}
	}
}

func evidenceEntry(by wire.Seat, accused *path) string {
	return fmt.Sprintf("evidence/%s/%x", by, accused.ref.Key[:8])
}

// boardEvidence takes evidence from a board: it proves itself, whoever put it
// there, and what does not hold is no relay's doing. Others read the boards, too;
// whoever cannot shows it (lacksEvidence).
func (m *Machine) boardEvidence(value []byte) {
	e, err := crossverify.ParseEvidence(string(value))
	if err != nil {
		return
	}
	if p := m.pathOf(e.First.Relay); p != nil && e.First.Channel == p.channel {
		m.takeEvidence(p, e, false)
	}
}

// wasShared: another member sent evidence about a path.
func (m *Machine) wasShared(p *path) {
	p.shared = m.now
	for i := range m.exchange {
		if e := &m.exchange[i]; e.path == p.index {
			e.enough--
		}
	}
	m.exchange = slices.DeleteFunc(m.exchange, func(e exchangeDue) bool { return e.evidence != nil && e.enough == 0 })
}

// lacksEvidence: a seat's view counts a relay that is set aside here. The
// evidence is shared again, unless it may be on its way; each time that did not
// help it takes one more of the others to make it needless, since somebody in
// the group may share it with everybody but that seat.
func (m *Machine) lacksEvidence(p *path, seat wire.Seat) {
	at := slices.IndexFunc(m.evidence, func(r *evidenceRecord) bool { return r.Path == p.index })
	by := claimant{p.index, seat}
	if at < 0 || !p.shared.IsZero() && m.now.Before(p.shared.Add(reshareAfter)) || m.reshared[by] >= maxReshares ||
		slices.ContainsFunc(m.exchange, func(e exchangeDue) bool { return e.path == p.index && e.evidence != nil }) {
		return
	}
	m.reshared[by]++
	m.exchange = append(m.exchange, exchangeDue{at: m.now.Add(m.shareJitter()), path: p.index, evidence: m.evidence[at], enough: enoughShares - 1 + m.reshared[by]})
}

// evidenceRecord is evidence held, as stored (JSON).
type evidenceRecord struct {
	ID       string
	Path     int
	Form     string
	Sentence string
	Time     time.Time
	Text     string
	Put      bool // on the boards, by this member
}

// convict takes evidence and shares it. It tells whether the evidence holds.
func (m *Machine) convict(p *path, e crossverify.Evidence) bool { return m.takeEvidence(p, e, true) }

// takeEvidence takes evidence, whoever found it: checked again as a stranger
// would, stored, told, and the relay is set aside. Once for one relay and form.
func (m *Machine) takeEvidence(p *path, e crossverify.Evidence, share bool) bool {
	f, err := e.Check(m.cfg.Verify)
	if err != nil || f.Relay != p.ref.Key {
		return false
	}
	form := fmt.Sprint(f.Form)
	for _, r := range m.evidence {
		if r.Path == p.index && r.Form == form {
			return true
		}
	}
	text := e.Text()
	d := wire.Hash("parallax/1/evidence/id", []byte(text))
	rec := &evidenceRecord{ID: hex.EncodeToString(d[:8]), Path: p.index, Form: form, Sentence: f.Sentence, Time: m.now.UTC(), Text: text}
	m.evidence = append(m.evidence, rec)
	m.saveEvidence(rec)
	if share {
		m.exchange = append(m.exchange, exchangeDue{at: m.now.Add(m.shareJitter()), path: p.index, evidence: rec, enough: enoughShares})
	}
	if !slices.ContainsFunc(m.paths, func(o *path) bool { return o != p && !o.aside }) {
		// The last one: where no relay counts, no member is agreed on, and
		// nothing can be encrypted to anybody any more.
		for i := range m.exchange {
			m.exchange[i].at = m.now
		}
		m.runExchanges()
	}
	m.setAside(rec)
	m.show(Event{Kind: EventEvidence, Relay: p.label(), Evidence: rec.ID,
		Text: fmt.Sprintf("Relay %s is convicted by its own signatures: %s It is set aside: no message is posted to it and it does not count; it is still read and compared. %s", p.name(), f.Sentence, m.successor(p))})
	m.forgetPosts(p)
	m.retryHeld(wire.Seat{}) // first contacts have another policy now
	return true
}

// successor asks who may for another relay in a convicted one's place.
func (m *Machine) successor(p *path) string {
	if m.isMember() && m.mayChange(RoleAdmin) == nil {
		return m.offer(p)
	}
	return "Nothing for you to do."
}

func (m *Machine) saveEvidence(rec *evidenceRecord) {
	id, _ := hex.DecodeString(rec.ID)
	m.put(m.key(keyEvidence, id), mustJSON(rec))
}

// forgetPosts ends all posts of a relay that is set aside.
func (m *Machine) forgetPosts(p *path) {
	for _, q := range p.queue {
		m.hasten(q)
		m.forgetPost(p, q)
	}
	p.queue = nil
}

func (m *Machine) setAside(rec *evidenceRecord) {
	p := m.paths[rec.Path]
	p.aside = true
	m.current = nil
	if m.ledger != nil {
		m.ledger.SetAside(crossverify.Path(p.index), true)
	}
}

func (m *Machine) loadEvidence(_, value []byte) error {
	rec := &evidenceRecord{}
	if err := json.Unmarshal(value, rec); err != nil {
		return err
	}
	if rec.Path < 0 || rec.Path >= len(m.paths) {
		return wire.ErrFormat
	}
	m.evidence = append(m.evidence, rec)
	return nil
}
