package member

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// accused is a founder's membership and the log of one of its relays, which
// signs whatever a test wants.
type accused struct {
	*Machine
	t    *testing.T
	p    *path
	key  keys.RelayPrivate
	life wire.Lineage
	leaf crossverify.Leaf // of the own entry
}

const ownAt = 5 // number of the own entry's receipt

func newAccused(t *testing.T) *accused {
	m := laidDown(t, 1)
	a := &accused{Machine: m, t: t, p: m.paths[0], key: benchRelay(0), life: wire.Lineage{7: 1}}
	a.p.syncRoot()
	a.p.lineage = a.life
	a.p.read.link, a.p.read.opened = 4, true
	m.sends = nil
	return a
}

// sign is a statement of the accused relay.
func (a *accused) sign(n uint64, d, root wire.Digest) crossverify.Statement {
	return crossverify.SignStatement(a.key, a.p.channel, a.life, n, d, wire.Hash("head", wire.U64(n), root[:]), root)
}

// write puts an own entry and takes the relay's receipt for number n.
func (a *accused) write(version, n uint64, root wire.Digest) crossverify.Statement {
	a.putEntry(a.p, epochKey, "announcement/"+a.self.String(), version, []byte{byte(version)}, a.keyring.owner)
	q := a.p.queue[len(a.p.queue)-1]
	put, _ := boardWrite(q)
	a.leaf = crossverify.Leaf{Name: put.Name, Version: version, Value: put.ValueDigest()}
	q.inFlight = true
	s := a.sign(n, q.d, root)
	a.receipt(a.p, proto.Receipt{PostID: q.id, Statement: s})
	if len(a.p.queue) != 0 {
		a.t.Fatal("the receipt was not taken")
	}
	return s
}

// read lets the path stand at a statement, as after a number that was read.
func (a *accused) read(s crossverify.Statement) {
	a.p.position, a.p.head, a.p.root = s.N, s.H, s.Root
	a.keepRead(a.p, s)
	a.checkRoot(a.p, s.N, s.Root)
}

// asked are the names that the relay was asked to prove since the last call.
func (a *accused) asked() (names []wire.Digest) {
	for _, s := range a.sends {
		if msg, err := proto.Parse(s.Frame); err == nil {
			if f, ok := msg.(proto.BoardProve); ok {
				names = append(names, f.Name)
			}
		}
	}
	a.sends = nil
	return names
}

// convicted tells whether the relay is, by evidence that a stranger accepts.
func (a *accused) convicted() bool {
	a.t.Helper()
	for _, r := range a.Machine.evidence {
		e, err := crossverify.ParseEvidence(r.Text)
		if err != nil {
			a.t.Fatalf("the evidence does not read: %v", err)
		}
		f, err := e.Check(keys.Ed25519)
		if err != nil || f.Form != crossverify.Forgotten || f.Relay != a.key.Public() {
			a.t.Fatalf("evidence of form %v: %v", f.Form, err)
		}
	}
	if aside := a.p.aside; aside != (len(a.Machine.evidence) == 1) {
		a.t.Fatalf("set aside: %v, pieces of evidence: %d", aside, len(a.Machine.evidence))
	}
	return a.p.aside
}

func boardOf(leaves ...crossverify.Leaf) (t crossverify.Tree) {
	for _, l := range append(leaves, crossverify.Leaf{Name: wire.Digest{0x11}, Version: 1}, crossverify.Leaf{Name: wire.Digest{0xf1}, Version: 3}) {
		t.Put(l)
	}
	return t
}

// TestForgottenBySection9: form 2 sentence by sentence: what a relay answers
// convicts it only if its own root, at the receipt's number or later in the same
// lineage, provably lacks the entry.
func TestForgottenBySection9(t *testing.T) {
	other := keys.NewPrivate[keys.RoleRelay]([32]byte{99})
	for _, c := range []struct {
		name  string
		board func(own crossverify.Leaf) crossverify.Tree
		n     uint64
		alter func(a *accused, f *proto.BoardProof)
		want  bool
	}{
		{"nothing", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, 12, nil, true},
		{"an empty board", func(crossverify.Leaf) (t crossverify.Tree) { return t }, 12, nil, true},
		{"an older version", func(l crossverify.Leaf) crossverify.Tree { l.Version--; return boardOf(l) }, 12, nil, true},
		{"another value", func(l crossverify.Leaf) crossverify.Tree { l.Value[0]++; return boardOf(l) }, 12, nil, true},
		{"the number that was read", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, ownAt + 1, nil, true},
		{"the entry", func(l crossverify.Leaf) crossverify.Tree { return boardOf(l) }, 12, nil, false},
		{"a newer version", func(l crossverify.Leaf) crossverify.Tree { l.Version++; l.Value[0]++; return boardOf(l) }, 12, nil, false},
		{"a statement before the receipt", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, ownAt - 1, nil, false},
		{"another lineage", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, 12, func(a *accused, f *proto.BoardProof) {
			s := f.Statement
			f.Statement = crossverify.SignStatement(a.key, s.Channel, wire.Lineage{7: 2}, s.N, s.D, s.H, s.Root)
		}, false},
		{"another channel", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, 12, func(a *accused, f *proto.BoardProof) {
			s := f.Statement
			f.Statement = crossverify.SignStatement(a.key, wire.ChannelID{1}, s.Lineage, s.N, s.D, s.H, s.Root)
		}, false},
		{"another relay", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, 12, func(_ *accused, f *proto.BoardProof) {
			s := f.Statement
			f.Statement = crossverify.SignStatement(other, s.Channel, s.Lineage, s.N, s.D, s.H, s.Root)
		}, false},
		{"no signature", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, 12, func(_ *accused, f *proto.BoardProof) { f.Statement.Signature = [64]byte{} }, false},
		{"a proof of another root", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, 12, func(_ *accused, f *proto.BoardProof) { f.Proof = crossverify.Proof{} }, false},
		{"a name that was not asked for", func(crossverify.Leaf) crossverify.Tree { return boardOf() }, 12, func(_ *accused, f *proto.BoardProof) {
			f.Name[31]++
			f.Statement.Signature = [64]byte{} // it is not looked at
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAccused(t)
			a.write(2, ownAt, wire.Digest{1})
			a.p.tree, a.p.listed = boardOf(a.leaf), true
			if a.asked() != nil {
				t.Fatal("asked before anything was read")
			}
			a.read(a.sign(ownAt+1, wire.Digest{}, wire.Digest{0xbb})) // not the board as shown
			if names := a.asked(); !slices.Equal(names, []wire.Digest{a.leaf.Name}) {
				t.Fatalf("asked for %x", names)
			}
			if a.convicted() {
				t.Fatal("convicted by a root alone")
			}
			board := c.board(a.leaf)
			s := a.sign(c.n, wire.Digest{2}, board.Root())
			if c.n == ownAt+1 { // that number's statement is known; another one would be a fork
				delete(a.p.heads, c.n)
			}
			f := proto.BoardProof{Name: a.leaf.Name, Proof: board.Prove(a.leaf.Name), Statement: s}
			if c.alter != nil {
				c.alter(a, &f)
			}
			a.boardProof(a.p, f)
			if got := a.convicted(); got != c.want {
				t.Errorf("convicted: %v, want %v", got, c.want)
			}
			broken := c.alter != nil && f.Name == a.leaf.Name
			if closed := a.p.read.link == 0; closed != broken {
				t.Errorf("the link was closed: %v, want %v", closed, broken)
			}
		})
	}
}

// TestForgottenByTheBoardShown: where the board as shown has the signed root,
// it is the proof, and nobody is asked.
func TestForgottenByTheBoardShown(t *testing.T) {
	lacking := boardOf()
	t.Run("a number that was read", func(t *testing.T) {
		a := newAccused(t)
		a.p.tree, a.p.listed = boardOf(), true
		a.read(a.sign(ownAt-1, wire.Digest{}, lacking.Root()))
		a.write(2, ownAt, wire.Digest{1})
		if a.convicted() {
			t.Fatal("convicted by a board from before the receipt")
		}
		a.read(a.sign(ownAt+1, wire.Digest{}, lacking.Root()))
		if !a.convicted() || a.asked() != nil {
			t.Error("not convicted by the board it shows, or asked")
		}
	})
	t.Run("a root that was compared before", func(t *testing.T) {
		a := newAccused(t)
		a.putEntry(a.p, epochKey, "admission/"+a.self.String(), 1, nil, a.keyring.owner)
		q := a.p.queue[0]
		put, _ := boardWrite(q)
		shown := boardOf(crossverify.Leaf{Name: put.Name, Version: 1, Value: put.ValueDigest()})
		a.p.tree, a.p.listed, a.p.queue = shown, true, nil
		a.keepReceipt(a.p, q, a.sign(2, q.d, shown.Root()))
		a.read(a.sign(3, wire.Digest{}, shown.Root()))
		a.write(2, ownAt, wire.Digest{1})
		a.read(a.sign(ownAt+1, wire.Digest{}, shown.Root()))
		if !a.convicted() {
			t.Error("not convicted by a root from before the receipt")
		}
	})
	t.Run("the receipt comes after the number", func(t *testing.T) {
		a := newAccused(t)
		a.p.tree, a.p.listed = boardOf(), true
		a.read(a.sign(ownAt+3, wire.Digest{}, lacking.Root()))
		a.write(2, ownAt, wire.Digest{1})
		if !a.convicted() {
			t.Error("not convicted")
		}
	})
	t.Run("its own receipt", func(t *testing.T) {
		a := newAccused(t)
		a.p.tree, a.p.listed = boardOf(), true
		a.read(a.write(2, ownAt, lacking.Root()))
		if !a.convicted() {
			t.Error("a receipt under a root without the entry does not convict")
		}
	})
	for _, n := range []uint64{ownAt - 1, ownAt + 1} {
		a := newAccused(t)
		a.write(2, ownAt, wire.Digest{1})
		page := proto.BoardPage{Entries: []proto.BoardEntry{{Name: wire.Digest{3}, Version: 1, Value: []byte("x")}}}
		var tree crossverify.Tree
		tree.Put(crossverify.Leaf{Name: wire.Digest{3}, Version: 1, Value: crossverify.ValueDigest([]byte("x"))})
		page.Statement = a.sign(n, wire.Digest{}, tree.Root())
		a.p.listed = false
		a.boardPage(a.p, page)
		if !a.p.listed {
			t.Fatal("the listing was not taken")
		}
		if got := a.convicted(); got != (n >= ownAt) {
			t.Errorf("a listing at %d, the receipt at %d: convicted %v", n, ownAt, got)
		}
	}
}

// TestProofsAreAskedSparingly: once for each root; not while a board is not
// read, nor beyond the limit, nor of a relay that was set aside.
func TestProofsAreAskedSparingly(t *testing.T) {
	a := newAccused(t)
	a.write(2, ownAt, wire.Digest{1})
	a.p.tree, a.p.listed = boardOf(a.leaf), false
	n := uint64(ownAt)
	number := func(root wire.Digest) int {
		n++
		a.read(a.sign(n, wire.Digest{}, root))
		return len(a.asked())
	}
	if number(wire.Digest{1}) != 0 {
		t.Error("asked about a board that was not read")
	}
	a.p.listed = true
	a.read(a.sign(ownAt-1, wire.Digest{}, wire.Digest{1}))
	if a.asked() != nil {
		t.Error("asked about a number from before the receipt")
	}
	a.p.listedAt = n + 1
	if number(wire.Digest{1}) != 0 {
		t.Error("asked about a number from before the listing")
	}
	if number(wire.Digest{1}) != 1 || number(wire.Digest{1}) != 0 || number(wire.Digest{2}) != 1 || number(wire.Digest{2}) != 0 {
		t.Error("not once for each root")
	}
	if number(a.p.tree.Root()) != 0 {
		t.Error("asked about the board as shown")
	}
	a.p.read.opened = false
	if number(wire.Digest{3}) != 0 {
		t.Error("asked on a link that is not open")
	}
	a.p.read.opened, a.p.caughtUp = true, false
	a.onRead(a.p, proto.CaughtUp{N: n})
	if len(a.asked()) != 1 {
		t.Error("not asked when the link is open again")
	}
	a.p.read.compared.count = maxProofs
	if number(wire.Digest{4}) != 0 {
		t.Error("asked beyond the limit")
	}
	a.p.read.compared = comparedRoot{}
	a.p.aside = true
	if number(wire.Digest{5}) != 0 {
		t.Error("asked a relay that was set aside")
	}
}

// TestNewestReceiptIsKept: of one lineage that of the greatest version, of two
// lineages that of the later; old ones end with their lineage.
func TestNewestReceiptIsKept(t *testing.T) {
	a := newAccused(t)
	first := a.life
	have := func(version, n uint64) {
		t.Helper()
		r := a.p.receipts.by[a.leaf.Name]
		if r == nil || r.leaf.Version != version || r.st.N != n || r.st.Lineage != a.life {
			t.Fatalf("%+v, want version %d at %d", r, version, n)
		}
		raw := a.ops[a.opAt[string(a.receiptKey(a.p, a.leaf.Name))]].Value
		stored, err := parseReceipt(a.leaf.Name, raw)
		if err != nil || *stored != *r {
			t.Fatalf("stored %+v, %v", stored, err)
		}
	}
	a.write(2, 5, wire.Digest{1})
	have(2, 5)
	a.write(3, 9, wire.Digest{1})
	have(3, 9)
	a.write(2, 11, wire.Digest{1})
	have(3, 9)
	a.life = wire.Lineage{7: 2} // the post link meets the new lineage first
	a.write(3, 2, wire.Digest{1})
	have(3, 2)
	a.life = first
	a.write(4, 12, wire.Digest{1})
	a.life = wire.Lineage{7: 2}
	have(3, 2)
	a.startLineage(a.p, a.life)
	have(3, 2)
	a.startLineage(a.p, wire.Lineage{7: 3})
	if len(a.p.receipts.by) != 0 || a.ops[a.opAt[string(a.receiptKey(a.p, a.leaf.Name))]].Value != nil || a.p.receipts.last != 0 {
		t.Error("a receipt outlives its lineage")
	}
	a.life = first
	a.write(5, 13, wire.Digest{1})
	if len(a.p.receipts.by) != 0 {
		t.Error("a receipt of a lineage that ended was kept")
	}
	if a.p.aside {
		t.Error("convicted for losing data")
	}
}

// TestReceiptsAreBounded: a path keeps maxReceipts, the first ones, and renews
// those.
func TestReceiptsAreBounded(t *testing.T) {
	a := newAccused(t)
	put := func(i int, version, n uint64) {
		q := &postItem{kind: postBoard, frame: proto.Encode(proto.BoardPut{Name: wire.Digest{byte(i >> 8), byte(i)}, Version: version})}
		a.keepReceipt(a.p, q, a.sign(n, wire.Digest{}, wire.Digest{}))
	}
	for i := range maxReceipts + 5 {
		put(i, 1, uint64(i+1))
	}
	put(3, 2, 1000)
	if n := len(a.p.receipts.by); n != maxReceipts {
		t.Errorf("%d receipts", n)
	}
	if r := a.p.receipts.by[wire.Digest{0, 3}]; r == nil || r.leaf.Version != 2 {
		t.Error("a kept one is not renewed")
	}
	if a.p.receipts.by[wire.Digest{1, 2}] != nil {
		t.Error("one beyond the limit was kept")
	}
}

// TestReceiptsAreReadBack: what was stored convicts after opening again, and a
// backup has it.
func TestReceiptsAreReadBack(t *testing.T) {
	a := newAccused(t)
	a.write(2, ownAt, wire.Digest{1})
	a.savePath(a.p)
	disk := memory.New()
	for _, op := range a.ops {
		if err := disk.Apply([]store.Batch{{Unit: a.unit, Base: must(disk.Revision(a.unit)), Ops: []store.Op{op}}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	again := &Machine{cfg: a.cfg, unit: a.unit, entropy: benchEntropy{}, paths: a.paths}
	before := a.p.receipts.by[a.leaf.Name]
	a.p.receipts = receipts{}
	if err := again.each(disk, keyReceipt, again.loadReceipt); err != nil {
		t.Fatal(err)
	}
	if r := a.p.receipts.by[a.leaf.Name]; r == nil || *r != *before || a.p.receipts.last != ownAt {
		t.Errorf("read back %+v", r)
	}
	key := a.receiptKey(a.p, a.leaf.Name)
	if _, err := backupKind(a.unit, key); err != nil || slices.Contains(LiveKinds(), keyReceipt) {
		t.Errorf("a backup: %v, or live", err)
	}
}

func must(n uint64, err error) uint64 {
	if err != nil {
		panic(err)
	}
	return n
}

func FuzzParseReceipt(f *testing.F) {
	key := keys.NewPrivate[keys.RoleRelay]([32]byte{1})
	name, value := wire.Digest{1}, wire.Digest{2}
	good := &receipt{
		crossverify.SignStatement(key, wire.ChannelID{3}, wire.Lineage{7: 1}, 9, crossverify.BoardDigest(name, 4, value), wire.Digest{5}, wire.Digest{6}),
		crossverify.Leaf{Name: name, Version: 4, Value: value},
	}
	raw := good.append(nil)
	if len(raw) != crossverify.StatementSize+8+32 {
		f.Fatalf("%d bytes", len(raw))
	}
	if d := wire.Hash("golden", raw); d.String() != receiptGolden {
		f.Errorf("the record changed: %s", d)
	}
	if r, err := parseReceipt(name, raw); err != nil || *r != *good {
		f.Errorf("%+v, %v", r, err)
	}
	other := slices.Clone(raw)
	binary.BigEndian.PutUint64(other[crossverify.StatementSize:], 5)
	for _, bad := range [][]byte{nil, raw[:len(raw)-1], append(slices.Clone(raw), 0), other} {
		if _, err := parseReceipt(name, bad); err == nil {
			f.Errorf("%d bytes were taken", len(bad))
		}
		f.Add(bad)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseReceipt(name, b); err == nil && !bytes.Equal(r.append(nil), b) {
			t.Errorf("%x comes back as %x", b, r.append(nil))
		}
	})
}

const receiptGolden = "be4a6494d88667333e497f46b34ec1cdde257dd7f9082c347d10ccfff76b49fe"

// TestMissingIsPutOnce: what a board lacks of the own entries is put again
// after a listing, unless a receipt of this lineage or a post under way says
// otherwise.
func TestMissingIsPutOnce(t *testing.T) {
	a := newAccused(t)
	a.p.receipts = receipts{}
	a.meta.Welcomed = 1
	rec := &InviteRecord{Group: a.gid, Key: keys.NewPrivate[keys.RoleInvite]([32]byte{7}).Public(), Uses: 2048, PerHour: 2048, Expires: a.now, Role: RoleMember, Mode: ModeOpen}
	rec.Sign(a.keyring.signing)
	a.invite(rec)
	a.carry(a.sortedLog()...)
	a.p.queue = nil
	names := func() (out []string) {
		for _, q := range a.p.queue {
			put, _ := boardWrite(q)
			for _, k := range append(a.boardKeys(a.p), a.keysOf(a.p).doors...) {
				if name, _, err := k.Open(put.Name, put.Version, put.Value); err == nil {
					out = append(out, name[:6])
				}
			}
		}
		return out
	}
	all := []string{"welcom", "announ", "roster"}
	a.putMissing(a.p)
	if got := names(); !slices.Equal(got, all) {
		t.Fatalf("put %q, want %q", got, all)
	}
	a.putMissing(a.p)
	if got := names(); len(got) != len(all) {
		t.Errorf("put twice: %q", got)
	}
	queue := a.p.queue
	for i, q := range queue {
		a.keepReceipt(a.p, q, a.sign(uint64(i+2), q.d, wire.Digest{}))
	}
	a.p.queue = nil
	a.putMissing(a.p)
	if got := names(); len(got) != 0 {
		t.Errorf("put although a receipt of this lineage is there: %q", got)
	}
	a.p.receipts = receipts{}
	for _, q := range queue {
		put, _ := boardWrite(q)
		a.p.tree.Put(crossverify.Leaf{Name: put.Name, Version: put.Version, Value: put.ValueDigest()})
	}
	a.putMissing(a.p)
	if got := names(); len(got) != 0 {
		t.Errorf("put although the board has it: %q", got)
	}
	a.p.tree = crossverify.Tree{}
	for _, set := range []*bool{&a.p.aside, &a.meta.Restored, &a.meta.Superseded} {
		*set = true
		a.putMissing(a.p)
		*set = false
	}
	if got := names(); len(got) != 0 {
		t.Errorf("put by who must not: %q", got)
	}
}
