package ratchet

import (
	"crypto/mlkem"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// pqSide is an end of a standing session, its ML-KEM keys and the reference.
type pqSide struct {
	*side
	own    []PrekeysPrivate // held
	theirs []Prekeys        // what the peer may encapsulate to; the last is not held
	ref    *pqRef
}

// notHeld is the id of the ML-KEM key that its owner does not hold any more.
const notHeld = 72

// pqStart makes a confirmed session, path-mixed or not.
func pqStart(seed string, mixed bool) (a, b *pqSide) {
	var x, y *side
	if mixed {
		p := testPaths(2, 3)
		x, y = startMixed(seed, p)
		confirmMixed(x, y, p)
	} else {
		x, y = start(seed)
		must(x.open(y.seal()))
		must(y.open(x.seal()))
	}
	return newPQSide(x, seed+" a"), newPQSide(y, seed+" b")
}

func newPQSide(p *side, seed string) *pqSide {
	q := &pqSide{side: p, ref: pqRefOf(p)}
	q.ref.kems = make(map[uint32]*mlkem.DecapsulationKey768)
	r := newStream(seed + " kem")
	for id := range uint32(3) {
		var d [64]byte
		r.Read(d[:])
		k, err := mlkem.NewDecapsulationKey768(d[:])
		must(err)
		pub := Prekeys{KEMID: 70 + id}
		copy(pub.KEM[:], k.EncapsulationKey().Bytes())
		q.theirs = append(q.theirs, pub)
		if id < 2 {
			q.own = append(q.own, PrekeysPrivate{KEMID: 70 + id, KEM: k})
			q.ref.kems[70+id] = k
		}
	}
	return q
}

// reinforce encapsulates to a key of peer.
func (p *pqSide) reinforce(peer *pqSide, key int) error {
	err := p.s.Reinforce(p.rand, &peer.theirs[key])
	if err == nil {
		p.ref.reinforce(&peer.theirs[key])
	}
	return err
}

// sealControl is seal with the encapsulation in front.
func (p *pqSide) sealControl() letter {
	p.sent++
	l := letter{d: wire.Hash("test/control", []byte(p.rand.seed), wire.U64(uint64(p.sent)))}
	l.key = keys.NewSecret[keys.RoleContent](wire.Hash("test/content", l.d[:]))
	l.slot = p.s.SealControl(&p.chain, &l.key, l.d, nil)
	return l
}

// open opens a letter of either kind.
func (p *pqSide) open(l letter) error {
	if len(l.slot) != ControlSlotSize {
		return p.side.open(l)
	}
	k, err := p.s.OpenControl(testNow, p.rand, &p.chain, p.own, l.slot, l.d)
	if err == nil && !k.Equal(&l.key) {
		panic("a control slot opened to another content key")
	}
	return err
}

func (p *pqSide) pending() bool {
	pending, _ := p.s.Reinforcing()
	return pending
}
