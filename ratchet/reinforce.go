package ratchet

import (
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Post-quantum after the start (docs/protocol.md section 5.7). Awaiting
// independent review, and off unless a caller asks for it: a session that was
// never reinforced has the bytes of one that cannot be.
//
// Each side may encapsulate to the other's announced ML-KEM key. The ciphertext
// travels in a control slot, and whoever received one mixes its secret into the
// root at its own next turn. The count of root mixes in the header tells the
// other side, which mixes the same.

// reinforcement is what a session has from its first encapsulation on.
type reinforcement struct {
	sending   uint8          // root mixes that the own sending chain counts
	receiving uint8          // those of the receiving chain: as many, or one less
	sent      *encapsulation // own, until the peer is known to have mixed it
	received  *kemSecret     // the peer's, until the own next turn mixes it
}

// encapsulation is one of this side, to a key of the peer.
type encapsulation struct {
	kem        uint32
	ciphertext [mlkem.CiphertextSize768]byte
	shared     [32]byte
	sealed     uint32 // generation of its last control slot; 0: none yet
}

// kemSecret is what an encapsulation mixes into a root key.
type kemSecret struct {
	shared [32]byte
	digest wire.Digest // of the encapsulation and who sent it to whom
}

func (k *kemSecret) zero() {
	if k != nil {
		*k = kemSecret{}
	}
}

func (r *reinforcement) zero() {
	if r != nil {
		r.received.zero()
		if r.sent != nil {
			*r.sent = encapsulation{}
		}
		*r = reinforcement{}
	}
}

// control is what a control slot carries beside its slot.
type control struct {
	digest     wire.Digest
	ciphertext []byte
	key        *mlkem.DecapsulationKey768 // nil: not held (any more)
}

// secret decapsulates; nil without the key. ML-KEM itself refuses nothing of the
// right size, so it is asked only after the slot has proved authentic.
func (c *control) secret() *kemSecret {
	if c == nil || c.key == nil {
		return nil
	}
	shared, err := c.key.Decapsulate(c.ciphertext)
	if err != nil {
		return nil
	}
	k := &kemSecret{shared: [32]byte(shared), digest: c.digest}
	clear(shared)
	return k
}

// encapsulationDigest is q: it binds a ciphertext to session, direction and key.
func encapsulationDigest(t wire.Digest, sender, receiver wire.Seat, ciphertext []byte, kem uint32) wire.Digest {
	return sha256.Sum256(wire.Input(tagEncapsulation, t[:], sender[:], receiver[:], ciphertext, wire.U64(uint64(kem))))
}

// kemStep mixes an encapsulation into the root key after the ordinary step: the
// next root key and the chain key, in place of that step's.
func kemStep(root *[32]byte, k *kemSecret) (next, chain [32]byte) {
	var ikm [64]byte
	copy(ikm[:], k.shared[:])
	copy(ikm[32:], k.digest[:])
	next, chain = derivePair(root, ikm[:], tagMixKEM)
	clear(ikm[:])
	return next, chain
}

// Reinforce encapsulates once to the peer's announced ML-KEM key: the newest one
// that the caller has compared. Nothing leaves yet: store the session's record,
// then send by SealControl until Reinforcing tells that the peer has mixed it.
//
// An encapsulation that the peer never mixed can be replaced (its key may be
// gone) two generations after its last control slot: then the peer has turned
// without it, and does not take it from old chains any more.
//
// Errors: ErrUnconfirmed, ErrPending, wire.ErrFormat for an ML-KEM key that is
// not one. Nothing has changed then.
func (s *Session) Reinforce(enc Encapsulator, peer *Prekeys) error {
	if err := s.reinforce(enc, peer); err != nil {
		return fmt.Errorf("ratchet: reinforce session with seat %s: %w", s.peer.Short(), err)
	}
	return nil
}

func (s *Session) reinforce(enc Encapsulator, peer *Prekeys) error {
	if !s.Confirmed() {
		return ErrUnconfirmed
	}
	if e := s.encapsulation(); e != nil && e.sealed != 0 && s.generation-e.sealed < 2 {
		return fmt.Errorf("encapsulation to ML-KEM key %d: %w", e.kem, ErrPending)
	}
	kem, err := mlkem.NewEncapsulationKey768(peer.KEM[:])
	if err != nil {
		return fmt.Errorf("ML-KEM key %d: %w: %w", peer.KEMID, wire.ErrFormat, err)
	}
	shared, ct := enc.Encapsulate(kem)
	if len(shared) != mlkem.SharedKeySize || len(ct) != mlkem.CiphertextSize768 {
		return fmt.Errorf("encapsulation of %d and %d bytes: %w", len(shared), len(ct), wire.ErrFormat)
	}
	r := s.begun()
	if r.sent != nil {
		*r.sent = encapsulation{}
	}
	r.sent = &encapsulation{kem: peer.KEMID, ciphertext: [mlkem.CiphertextSize768]byte(ct), shared: [32]byte(shared)}
	clear(shared)
	return nil
}

// encapsulation is the own one that the peer is not known to have mixed, or nil.
func (s *Session) encapsulation() *encapsulation {
	if s.kem == nil {
		return nil
	}
	return s.kem.sent
}

// begun is the session's reinforcement; what it counts follows from the start
// until then.
func (s *Session) begun() *reinforcement {
	if s.kem == nil {
		s.kem = &reinforcement{sending: s.mixes(), receiving: s.currentMixes()}
	}
	return s.kem
}

// Reinforcing tells whether there is an own encapsulation that the peer is not
// known to have mixed, and whether a control slot of this generation has carried
// it. The peer takes it from its newest chain only, so each generation has to
// carry it again.
func (s *Session) Reinforcing() (pending, sealed bool) {
	e := s.encapsulation()
	return e != nil, e != nil && e.sealed == s.generation
}

// Mixes counts, modulo 256, the root mixes after the start that the own sending
// chain stands on: that of a mixed contact's answer and those of encapsulations
// in both directions.
func (s *Session) Mixes() uint8 { return s.mixes() }

// SealControl is Seal with the own encapsulation in front: it appends a control
// slot (1180 bytes). Store the session's record beside the chain before the slot
// leaves, since it notes the generation. It panics unless CanSend and
// Reinforcing.
func (s *Session) SealControl(chain *SendChain, key *keys.ContentKey, d wire.Digest, dst []byte) []byte {
	e := s.encapsulation()
	if e == nil {
		panic("ratchet: SealControl without an encapsulation; ask Reinforcing first")
	}
	q := encapsulationDigest(s.transcript, s.self, s.peer, e.ciphertext[:], e.kem)
	dst = append(dst, e.ciphertext[:]...)
	dst = wire.AppendU32(dst, e.kem)
	dst = s.seal(chain, key, d, &q, dst)
	e.sealed = s.generation
	return dst
}

// OpenControl opens a control slot (1180 bytes) as Open does its slot, and keeps
// the encapsulation in it for the own next turn, which may be that of this very
// slot. own are the prekeys still held. The encapsulation is left alone, and the
// slot opens all the same, if its ML-KEM key is not held, if the slot is not of
// the newest chain, and if the turn that this chain brought mixed it already.
//
// Errors: those of Open. Nothing has changed then.
func (s *Session) OpenControl(now time.Time, entropy io.Reader, chain *SendChain, own []PrekeysPrivate, slot []byte, d wire.Digest) (keys.ContentKey, error) {
	return s.openControl(now, entropy, chain, own, slot, d, false)
}

// OpenControlDrained is to OpenControl what OpenDrained is to Open.
func (s *Session) OpenControlDrained(now time.Time, entropy io.Reader, chain *SendChain, own []PrekeysPrivate, slot []byte, d wire.Digest) (keys.ContentKey, error) {
	return s.openControl(now, entropy, chain, own, slot, d, true)
}

func (s *Session) openControl(now time.Time, entropy io.Reader, chain *SendChain, own []PrekeysPrivate, slot []byte, d wire.Digest, drained bool) (keys.ContentKey, error) {
	if len(slot) != ControlSlotSize {
		return keys.ContentKey{}, fmt.Errorf("ratchet: control slot of %d bytes, not %d: %w", len(slot), ControlSlotSize, wire.ErrFormat)
	}
	c := control{ciphertext: slot[:mlkem.CiphertextSize768]}
	kem := binary.BigEndian.Uint32(slot[mlkem.CiphertextSize768:])
	c.digest = encapsulationDigest(s.transcript, s.peer, s.self, c.ciphertext, kem)
	for i := range own {
		if own[i].KEMID == kem {
			c.key = own[i].KEM
			break
		}
	}
	return s.open(now, entropy, chain, slot[ControlSlotSize-SlotSize:], d, drained, &c)
}

// take keeps an encapsulation that came in the newest receiving chain, whose
// turn is past. If that turn mixed one, it was this one: the peer makes no other
// before it has seen the mix, and then it has turned itself.
func (s *Session) take(c *control) {
	if c == nil || !s.Confirmed() || s.mixes() != s.currentMixes() || s.kemReceived() != nil {
		return
	}
	if k := c.secret(); k != nil {
		s.begun().received = k
	}
}

func (s *Session) kemReceived() *kemSecret {
	if s.kem == nil {
		return nil
	}
	return s.kem.received
}

// kemSent is what the own encapsulation mixes.
func (s *Session) kemSent() *kemSecret {
	e := s.kem.sent
	return &kemSecret{shared: e.shared, digest: encapsulationDigest(s.transcript, s.self, s.peer, e.ciphertext[:], e.kem)}
}

// mixesBy tells whether a chain that begins with this count has mixed the own
// encapsulation: one more than before, and there is one.
func (s *Session) mixesBy(count uint8) bool {
	return s.encapsulation() != nil && count == s.nextMixes()+1
}

// turned counts the mixes of a DH step: receiving is the count of the new
// receiving chain, sent tells that it mixed the own encapsulation, received that
// the turn mixed the peer's.
func (s *Session) turned(receiving uint8, sent, received bool) {
	if s.kem == nil {
		if !received {
			return
		}
		s.kem = &reinforcement{}
	}
	s.kem.receiving, s.kem.sending = receiving, receiving
	if received {
		s.kem.sending++
		s.kem.received = nil
	}
	if sent {
		*s.kem.sent = encapsulation{}
		s.kem.sent = nil
	}
}

// reinforcedFlags are the flags of a record of format 3 beside those of all.
func (s *Session) reinforcedFlags() (flags byte) {
	for _, f := range [...]struct {
		flag byte
		on   bool
	}{
		{flagMixed, s.mixed}, {flagTurned, s.kem.sending != s.kem.receiving},
		{flagSent, s.kem.sent != nil}, {flagReceived, s.kem.received != nil},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	return flags
}

// takeFlags takes what reinforcedFlags gave and returns the others. A turn that
// mixed has used up what was received.
func (s *Session) takeFlags(r *wire.Reader, flags byte) byte {
	s.mixed, s.kem = flags&flagMixed != 0, &reinforcement{}
	if flags&flagTurned != 0 {
		s.kem.sending = 1 // what it has more than receiving, until readMixes
	}
	if flags&flagSent != 0 {
		s.kem.sent = &encapsulation{}
	}
	if flags&flagReceived != 0 {
		s.kem.received = &kemSecret{}
		if flags&flagTurned != 0 {
			r.Fail(wire.ErrFormat)
		}
	}
	return flags &^ (flagMixed | flagTurned | flagSent | flagReceived)
}

// readMixes reads the count of the sending chain.
func (s *Session) readMixes(r *wire.Reader) {
	turned := s.kem.sending
	s.kem.sending = r.U8()
	s.kem.receiving = s.kem.sending - turned
	if s.generation < 2 {
		r.Fail(wire.ErrFormat)
	}
}

// appendReinforcement appends what a record of format 3 has after the skipped
// keys.
func (s *Session) appendReinforcement(b []byte) []byte {
	if s.kem == nil {
		return b
	}
	if e := s.kem.sent; e != nil {
		b = wire.AppendU32(b, e.kem)
		b = append(b, e.ciphertext[:]...)
		b = append(b, e.shared[:]...)
		b = wire.AppendU32(b, e.sealed)
	}
	if k := s.kem.received; k != nil {
		b = append(b, k.shared[:]...)
		b = append(b, k.digest[:]...)
	}
	return b
}

func (s *Session) readReinforcement(r *wire.Reader) {
	if e := s.kem.sent; e != nil {
		e.kem = r.U32()
		r.Fixed(e.ciphertext[:])
		r.Fixed(e.shared[:])
		if e.sealed = r.U32(); e.sealed > s.generation {
			r.Fail(wire.ErrFormat)
		}
	}
	if k := s.kem.received; k != nil {
		r.Fixed(k.shared[:])
		r.Fixed(k.digest[:])
	}
}
