package ratchet

import (
	"bytes"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// stream is deterministic randomness: SHA-256(seed, counter) blocks. It also
// encapsulates, as broadcast.Entropy does.
type stream struct {
	seed  string
	block uint64
	rest  []byte
}

func newStream(seed string) *stream { return &stream{seed: seed} }

func (s *stream) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		if len(s.rest) == 0 {
			sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(s.seed), s.block))
			s.block++
			s.rest = sum[:]
		}
		c := copy(p[n:], s.rest)
		s.rest = s.rest[c:]
		n += c
	}
	return len(p), nil
}

func (s *stream) take32() (b [32]byte) {
	s.Read(b[:])
	return b
}

func (s *stream) Encapsulate(k *mlkem.EncapsulationKey768) (shared, ct []byte) {
	r := s.take32()
	shared, ct, err := mlkemtest.Encapsulate768(k, r[:])
	if err != nil {
		panic(err)
	}
	return shared, ct
}

// end is everything of one side before a first contact.
type end struct {
	identity keys.IdentityPrivate
	party    Party
	own      PrekeysPrivate
	pre      Prekeys
}

func newEnd(seed string, id uint32) *end {
	r := newStream("end " + seed)
	e := &end{}
	must(e.identity.Draw(r))
	e.party = Party{Seat: r.take32(), Announcement: r.take32(), Identity: e.identity.Public()}
	e.own.ID, e.own.KEMID = id, id+1000
	must(e.own.Key.Draw(r))
	var d [64]byte
	r.Read(d[:])
	k, err := mlkem.NewDecapsulationKey768(d[:])
	must(err)
	e.own.KEM = k
	e.pre = Prekeys{ID: e.own.ID, Key: e.own.Key.Public(), KEMID: e.own.KEMID}
	copy(e.pre.KEM[:], k.EncapsulationKey().Bytes())
	return e
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func contact(self, peer *end) *Contact {
	return &Contact{
		Group: wire.GroupID(wire.Hash("test/group")), Self: self.party, Identity: self.identity, Peer: peer.party,
		Paths: wire.Hash("test/paths"), Attempt: 1,
	}
}

var (
	testA, testB = newEnd("a", 7), newEnd("b", 9)
	testNow      = time.Unix(1_790_000_000, 0)
)

// side is one end of a session as a member keeps it.
type side struct {
	s     *Session
	chain SendChain
	rand  *stream
	sent  int
}

// letter is a slot on its way.
type letter struct {
	slot []byte
	d    wire.Digest
	key  keys.ContentKey
}

func (p *side) seal() letter {
	p.sent++
	l := letter{d: wire.Hash("test/envelope", []byte(p.rand.seed), wire.U64(uint64(p.sent)))}
	l.key = keys.NewSecret[keys.RoleContent](wire.Hash("test/content", l.d[:]))
	l.slot = p.s.Seal(&p.chain, &l.key, l.d, nil)
	return l
}

func (p *side) open(l letter) error {
	k, err := p.s.Open(testNow, p.rand, &p.chain, l.slot, l.d)
	if err == nil && !k.Equal(&l.key) {
		panic("a slot opened to another content key")
	}
	return err
}

func (p *side) record() []byte {
	b, err := p.s.MarshalBinary()
	must(err)
	return p.chain.Append(b)
}

func (p *side) reopen() {
	b, err := p.s.MarshalBinary()
	must(err)
	s, err := ParseSession(b)
	must(err)
	again, err := s.MarshalBinary()
	must(err)
	if !bytes.Equal(b, again) {
		panic("a record does not come back as it was written")
	}
	p.s = s
	c, err := ParseSendChain(p.chain.Append(nil))
	must(err)
	p.chain = c
}

// startUnanswered makes an initiator and a provisional responder.
func startUnanswered(seed string) (a, b *side) {
	a, b = &side{rand: newStream(seed + " a")}, &side{rand: newStream(seed + " b")}
	s, chain, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &testB.pre)
	must(err)
	a.s, a.chain = s, chain
	b.s, err = Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part[:])
	must(err)
	return a, b
}

// start also opens message 0.
func start(seed string) (a, b *side) {
	a, b = startUnanswered(seed)
	must(b.open(a.seal()))
	return a, b
}

// unchanged fails the test if f changes the record or the chain.
func unchanged(t testing.TB, p *side, f func()) {
	t.Helper()
	before := p.record()
	f()
	if !bytes.Equal(before, p.record()) {
		t.Fatal("state changed")
	}
}

// forge masks a header for p to read, in front of a tag that nobody made.
func forge(p *side, h header) letter {
	slot := make([]byte, SlotSize)
	newStream("forged").Read(slot)
	plain := h.encode()
	applyMask(&plain, &p.s.recvHeader, slot[SlotSize-tagSize:])
	copy(slot, plain[:])
	return letter{slot: slot, d: wire.Hash("test/forged")}
}
