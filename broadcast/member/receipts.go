package member

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// A relay that takes a board write signs that it stands on the board from number
// n on, and the board never goes. So the newest receipt of every own entry is
// kept, and held against each root that the relay signs later in the same
// lineage: a root that provably lacks the entry convicts (docs/protocol.md
// section 9, form 2). What is not shown, not answered or older proves nothing,
// and a relay that began a new lineage lost data: there the receipts of the old
// one end, and what is missing is put again.

// Bounds of receipts.
const (
	// maxReceipts is how many are kept for a path. What comes beyond is not kept:
	// the entries that everybody needs were written first.
	maxReceipts = 256
	// maxProofs is how many proofs a path is asked for on one link.
	maxProofs = 1024
)

// receipt is the proof that a relay put an own entry on its board.
type receipt struct {
	st   crossverify.Statement
	leaf crossverify.Leaf // st.D is the digest of its write
}

// receipts are those of one path, all of one lineage except while the path's
// reader has not met the newest.
type receipts struct {
	by   map[wire.Digest]*receipt // by masked name
	last uint64                   // greatest number there is
}

// comparedRoot is what one link's board was held against, and what was asked.
type comparedRoot struct {
	root  wire.Digest
	upTo  uint64
	asked map[wire.Digest]wire.Digest // masked name to the root that gave rise to it
	count int
}

// lacks tells whether a board with this leaf in the entry's place (present:
// there is one) goes back behind the receipt.
func (r *receipt) lacks(l crossverify.Leaf, present bool) bool {
	return !present || l.Version < r.leaf.Version || l.Version == r.leaf.Version && l.Value != r.leaf.Value
}

// keepReceipt keeps the receipt of a board write of ours.
func (m *Machine) keepReceipt(p *path, q *postItem, s crossverify.Statement) {
	put, ok := boardWrite(q)
	if !ok || s.Lineage != p.lineage && p.lineage != (wire.Lineage{}) && s.Lineage.Ordinal() <= p.lineage.Ordinal() {
		return // no board write, or of a life that ended
	}
	r := &receipt{s, crossverify.Leaf{Name: put.Name, Version: put.Version, Value: put.ValueDigest()}}
	switch old := p.receipts.by[put.Name]; {
	case old == nil && len(p.receipts.by) >= maxReceipts,
		old != nil && old.st.Lineage == s.Lineage && old.leaf.Version >= put.Version,
		old != nil && old.st.Lineage != s.Lineage && old.st.Lineage.Ordinal() >= s.Lineage.Ordinal():
		return
	}
	p.receipts.add(r)
	m.put(m.receiptKey(p, put.Name), r.append(nil))
	if s.N <= p.position {
		m.compareNewest(p)
	}
}

func (h *receipts) add(r *receipt) {
	if h.by == nil {
		h.by = map[wire.Digest]*receipt{}
	}
	h.by[r.leaf.Name] = r
	h.last = max(h.last, r.st.N)
}

// boardWrite is the write in a post that writes the board.
func boardWrite(q *postItem) (put proto.BoardPut, ok bool) {
	if q.kind != postBoard && q.kind != postAdmit {
		return put, false
	}
	msg, err := proto.Parse(q.frame)
	if err != nil {
		return put, false
	}
	switch f := msg.(type) {
	case proto.BoardPut:
		return f, true
	case proto.Admit:
		return f.BoardPut, true
	}
	return put, false
}

func (m *Machine) receiptKey(p *path, name wire.Digest) []byte {
	return m.key(keyReceipt, []byte{byte(p.index)}, name[:])
}

// append appends statement 248, version u64, value digest 32.
func (r *receipt) append(b []byte) []byte {
	return append(wire.AppendU64(r.st.Append(b), r.leaf.Version), r.leaf.Value[:]...)
}

// parseReceipt reads what append wrote for the entry of that name.
func parseReceipt(name wire.Digest, b []byte) (*receipt, error) {
	in := wire.NewReader(b)
	raw := in.Raw(crossverify.StatementSize)
	r := &receipt{leaf: crossverify.Leaf{Name: name, Version: in.U64()}}
	in.Fixed(r.leaf.Value[:])
	if err := in.Done(); err != nil {
		return nil, err
	}
	var err error
	if r.st, err = crossverify.ParseStatement(raw); err != nil {
		return nil, err
	}
	if r.st.D != crossverify.BoardDigest(name, r.leaf.Version, r.leaf.Value) {
		return nil, fmt.Errorf("a receipt is for something else: %w", wire.ErrFormat)
	}
	return r, nil
}

func (m *Machine) loadReceipt(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil || len(key) != 33 || len(p.receipts.by) >= maxReceipts {
		return wire.ErrFormat
	}
	r, err := parseReceipt(wire.Digest(key[1:]), value)
	if err == nil {
		p.receipts.add(r)
	}
	return err
}

// endReceipts drops those of other lineages than the one that begins.
func (m *Machine) endReceipts(p *path, l wire.Lineage) {
	p.read.compared, p.receipts.last = comparedRoot{}, 0
	for _, name := range p.receipts.names() {
		if r := p.receipts.by[name]; r.st.Lineage == l {
			p.receipts.last = max(p.receipts.last, r.st.N)
			continue
		}
		delete(p.receipts.by, name)
		m.del(m.receiptKey(p, name))
	}
}

func (h *receipts) names() []wire.Digest {
	return slices.SortedFunc(maps.Keys(h.by), func(a, b wire.Digest) int { return bytes.Compare(a[:], b[:]) })
}

// compareNewest holds the receipts against the newest number that was read.
func (m *Machine) compareNewest(p *path) {
	if s, ok := p.heads[p.position]; ok {
		m.compareReceipts(p, s)
	}
}

// compareReceipts holds the receipts against a signed root. If it is the root of
// the board as this path shows it, that board proves what it lacks; if not, the
// relay is asked to prove what its own root has.
func (m *Machine) compareReceipts(p *path, s crossverify.Statement) {
	c := &p.read.compared
	if p.aside || len(p.receipts.by) == 0 || s.Lineage != p.lineage || s.Root == c.root && c.upTo >= p.receipts.last {
		return
	}
	shown := p.tree.Root() == s.Root
	if !shown && (!p.read.opened || !p.listed || s.N <= p.listedAt) {
		return // nobody to ask, or the board is not of this number
	}
	c.root, c.upTo = s.Root, s.N
	for _, name := range p.receipts.names() {
		r := p.receipts.by[name]
		if r.st.Lineage != s.Lineage || r.st.N > s.N {
			continue
		}
		if !shown {
			m.askProof(p, name, s.Root)
		} else if r.lacks(p.tree.Get(name)) {
			m.forgotten(p, r, s, p.tree.Prove(name))
		}
	}
}

// askProof asks once for each root what the board has under a name.
func (m *Machine) askProof(p *path, name, root wire.Digest) {
	c := &p.read.compared
	if before, asked := c.asked[name]; asked && before == root || c.count >= maxProofs {
		return
	}
	if c.asked == nil {
		c.asked = map[wire.Digest]wire.Digest{}
	}
	c.asked[name] = root
	c.count++
	m.send(p.read.link, proto.BoardProve{Name: name})
}

// boardProof takes the answer.
func (m *Machine) boardProof(p *path, f proto.BoardProof) {
	if _, asked := p.read.compared.asked[f.Name]; !asked {
		return
	}
	if !m.ours(p, f.Statement) || f.Statement.Lineage != p.lineage {
		m.pathFailed(p, "proof", fmt.Sprintf("relay %s answered with a proof under a statement that is not its own", p.label()))
		return
	}
	l, present, err := f.Proof.Check(f.Name, f.Statement.Root)
	if err != nil {
		m.pathFailed(p, "proof", fmt.Sprintf("relay %s answered with a proof that does not lead to the root it signed", p.label()))
		return
	}
	m.checkHead(p, f.Statement)
	m.keepStatement(p, f.Statement)
	if r := p.receipts.by[f.Name]; r != nil && r.lacks(l, present) {
		m.forgotten(p, r, f.Statement, f.Proof)
	}
}

// forgotten convicts, if later is of the receipt's lineage and not before it.
func (m *Machine) forgotten(p *path, r *receipt, later crossverify.Statement, proof crossverify.Proof) {
	if e, ok := crossverify.FindForgotten(r.st, r.leaf, later, proof); ok {
		m.convict(p, e)
	}
}

// putMissing puts again what a relay's board, just read whole, lacks of our own
// entries: it lost data. What it gave a receipt for in this lineage, or was sent
// and did not answer yet, is not put twice, so this is once for a lineage. The
// admission goes under the posting key: its invite may be over by now.
func (m *Machine) putMissing(p *path) {
	if !m.isMember() || m.meta.Restored || m.meta.Superseded || !p.keepsBoard() {
		return
	}
	k := m.keyring
	sent := map[wire.Digest]bool{}
	for _, q := range p.queue {
		if put, ok := boardWrite(q); ok {
			sent[put.Name] = true
		}
	}
	again := func(under boardKey, name string, version uint64, value []byte, owner [32]byte) {
		masked, shown := m.sealing(p, under).Name(name), uint64(0)
		if l, ok := p.tree.Get(masked); ok {
			shown = l.Version
		}
		if r := p.receipts.by[masked]; shown >= version || sent[masked] || r != nil && r.st.Lineage == p.lineage && r.leaf.Version >= version {
			return
		}
		m.putEntry(p, under, name, version, value, owner)
	}
	if m.meta.Welcomed > 0 && m.meta.WelcomeOf == k.inUse {
		again(doorKey, welcomeName(m.self), m.meta.Welcomed, m.welcome().Append(nil), k.owner)
	}
	for _, rec := range m.evidence {
		if rec.Put {
			again(epochKey, evidenceEntry(m.self, m.paths[rec.Path]), m.pageVersion(1), []byte(rec.Text), k.owner)
		}
	}
	again(epochKey, "announcement/"+m.self.String(), k.ann.Version, m.meta.Announced, k.owner)
	for i := range m.pages {
		if n := len(m.pages[i]); operationsOf(m.shownVersion(p, pageName(m.self, i))) < uint64(n) {
			again(epochKey, pageName(m.self, i), m.pageVersion(n), m.pageValue(i), k.owner)
		}
	}
	if k.adm != nil {
		again(epochKey, "admission/"+m.self.String(), 1, m.meta.Admitted, k.owner)
	}
}
