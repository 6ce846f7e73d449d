package ratchet

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Session is one pairwise session without its sending chain; state variables
// are those of the Double Ratchet, section 3.2. Make one with Initiate, Accept,
// their mixed kind, or ParseSession.
type Session struct {
	_ [0]func() // not comparable

	initiator  bool
	transcript wire.Digest
	self, peer wire.Seat

	headerSecret           [32]byte // what both header keys are expanded from
	sendHeader, recvHeader [32]byte

	root    [32]byte // RK
	seed    [32]byte // DHs; the responder's prekey is never stored here
	own     keys.RatchetPublic
	private keys.RatchetPrivate // of seed; made when first needed: 33 µs
	remote  keys.RatchetPublic  // DHr

	recv     [32]byte // CKr; receiving() tells whether there is one
	received uint32   // Nr

	generation uint32   // DH steps that made a sending chain; 0: provisional
	pn         uint32   // PN of this generation
	initial    [32]byte // this generation's CKs at its start
	hasInitial bool

	skipped skippedKeys

	mixed   bool          // the first contact was path-mixed
	awaited *awaited      // initiator of a mixed contact, until the answer opens
	policy  Paths         // responder of one, while provisional
	answer  []answerShare // responder of one, until confirmed

	kem *reinforcement // from the first encapsulation on

	// The AEAD is called through an interface, so what it is given would be
	// allocated for each slot if it did not lie here.
	scratch struct{ ad, plain [32]byte }
}

// Transcript is T, by which hellos are recognised and attempts compared.
func (s *Session) Transcript() wire.Digest { return s.transcript }

// Self and Peer are the seats of this end and of the other.
func (s *Session) Self() wire.Seat { return s.self }
func (s *Session) Peer() wire.Seat { return s.peer }

// Initiator tells which side this end was at the start.
func (s *Session) Initiator() bool { return s.initiator }

// Generation counts the sending chains so far; 0 is provisional.
func (s *Session) Generation() uint32 { return s.generation }

// Confirmed tells that the peer is known to have this session. For the
// initiator: a slot of the responder has opened. For the responder: a slot has
// opened that answers one of its own, so the initiator's ratchet key has turned
// since message 0. Until then hellos and answers travel in their long form.
func (s *Session) Confirmed() bool { return s.generation >= 2 }

// CanSend tells whether Seal may be called with this stored chain. It is false
// while provisional, after 2^24 - 1 messages without an answer, and when the
// session's chain is lost or the stored chain is newer than the session.
func (s *Session) CanSend(stored SendChain) bool {
	c := s.Chain(stored)
	return c.Generation > 0 && c.N < MaxChain
}

// Chain is the sending chain to use, given the one that is stored: the stored
// one if it is of the session's generation; the session's initial one if the
// stored one is older, since a DH step came after the last send. Else there is
// none (the zero SendChain): a newer stored chain means that the session's
// record is an old copy, whose chain would give out message keys twice.
func (s *Session) Chain(stored SendChain) SendChain {
	switch {
	case stored.Generation == s.generation:
		return stored
	case stored.Generation < s.generation && s.hasInitial:
		return SendChain{Generation: s.generation, Key: s.initial}
	}
	return SendChain{}
}

// DropInitial erases the initial sending chain from the session. As long as the
// record has it, whoever reads the record can derive the keys of every slot
// sent in this generation again. Call it when a stored chain of this generation
// is durable, or in the batch that makes it so; then Chain needs the stored one.
func (s *Session) DropInitial() {
	clear(s.initial[:])
	s.hasInitial = false
}

// Seal appends the slot (88 bytes) that carries key, the content key of the
// envelope with digest d, and advances chain and nothing else (Double Ratchet,
// section 3.4). chain is the stored one; Seal itself takes what Chain makes of
// it. The chain must be durable before the slot leaves: a chain used again would
// encrypt twice under one key. Seal panics unless CanSend.
func (s *Session) Seal(chain *SendChain, key *keys.ContentKey, d wire.Digest, dst []byte) []byte {
	return s.seal(chain, key, d, nil, dst)
}

// seal is Seal; encapsulation is the digest of what a control slot carries.
func (s *Session) seal(chain *SendChain, key *keys.ContentKey, d wire.Digest, encapsulation *wire.Digest, dst []byte) []byte {
	*chain = s.Chain(*chain)
	if chain.Generation == 0 || chain.N >= MaxChain {
		panic("ratchet: Seal without a sending chain; ask CanSend first")
	}
	h := header{ratchet: s.own, n: chain.N, mixes: s.mixes(), pn: s.pn}
	plain := h.encode()
	s.scratch.ad = associatedData(s.transcript, s.self, s.peer, d, &plain, encapsulation)
	var mk [32]byte
	chainStep(&chain.Key, &mk)
	chain.N++

	start := len(dst)
	dst = append(dst, make([]byte, SlotSize)...)
	slot := dst[start:]
	body := slot[headerSize : headerSize+32]
	copy(body, key.Expose())
	newAEAD(&mk).Seal(body[:0], zeroNonce[:], body, s.scratch.ad[:])
	clear(mk[:])
	applyMask(&plain, &s.sendHeader, slot[SlotSize-tagSize:])
	copy(slot, plain[:])
	return dst
}

// Open opens a slot (88 bytes) of the envelope with digest d and advances the
// session (Double Ratchet, section 3.5). At a DH step it reads 32 bytes from
// entropy, after the slot has proved authentic, and sets chain, the stored
// sending chain, to the first of the new generation; store both together.
//
// The DH step of a mixed responder reads 32*K bytes more: the answer's secret.
// That of a mixed initiator needs the shares of the answer (OpenAnswer).
//
// Errors: ErrAuth, ErrDuplicate, ErrJump, ErrFull, ErrShares, ErrRolledBack,
// ErrExhausted, keys.ErrSmallOrder, wire.ErrFormat for another size, and those
// of entropy. Nothing has changed then.
func (s *Session) Open(now time.Time, entropy io.Reader, chain *SendChain, slot []byte, d wire.Digest) (keys.ContentKey, error) {
	return s.open(now, entropy, chain, slot, d, false, nil)
}

// OpenDrained is Open for when the sender's mailboxes are drained, so that what
// was skipped may be lost: instead of ErrFull the oldest keys go.
func (s *Session) OpenDrained(now time.Time, entropy io.Reader, chain *SendChain, slot []byte, d wire.Digest) (keys.ContentKey, error) {
	return s.open(now, entropy, chain, slot, d, true, nil)
}

func (s *Session) open(now time.Time, entropy io.Reader, chain *SendChain, slot []byte, d wire.Digest, drained bool, c *control) (key keys.ContentKey, err error) {
	if len(slot) != SlotSize {
		return key, fmt.Errorf("ratchet: slot of %d bytes, not %d: %w", len(slot), SlotSize, wire.ErrFormat)
	}
	h, plain := s.readHeader(slot)
	var encapsulation *wire.Digest
	if c != nil {
		encapsulation = &c.digest
	}
	s.scratch.ad = associatedData(s.transcript, s.peer, s.self, d, &plain, encapsulation)

	known := s.skipped.chain(h.ratchet)
	current := s.receiving() && h.ratchet == s.remote
	mixes, mixed := s.nextMixes(), false
	switch {
	case current:
		mixes = s.currentMixes()
	case known >= 0:
		mixes = s.skipped.chains[known].mixes
	default:
		mixed = s.mixesBy(h.mixes)
	}
	// Both ends know what entered the root of a chain. A forger who does not
	// know the header key gets no further than here in 254 of 256 tries.
	if h.mixes != mixes && !mixed {
		return key, s.refused(ErrAuth)
	}
	if known >= 0 {
		if i := s.skipped.find(known, h.n); i >= 0 {
			if !s.decrypt(&s.skipped.chains[known].keys[i].mk, slot, &key) {
				return key, s.refused(ErrAuth)
			}
			s.skipped.remove(known, i, i+1)
			if current {
				s.take(c)
			}
			return key, nil
		}
	}
	switch {
	case current && h.n < s.received, known >= 0 && !current:
		return key, s.refused(ErrDuplicate)
	case current:
		if err = s.openCurrent(now, slot, &h, drained, &key); err == nil {
			s.take(c)
		}
	default:
		err = s.openNext(now, entropy, chain, slot, &h, mixed, c, drained, &key)
	}
	if err != nil {
		key.Zero()
		return key, s.refused(err)
	}
	return key, nil
}

// readHeader takes the mask off the header of a slot (88 bytes).
func (s *Session) readHeader(slot []byte) (h header, plain [headerSize]byte) {
	plain = [headerSize]byte(slot)
	applyMask(&plain, &s.recvHeader, slot[SlotSize-tagSize:])
	return decodeHeader(&plain), plain
}

func (s *Session) refused(err error) error {
	return fmt.Errorf("ratchet: slot from seat %s: %w", s.peer.Short(), err)
}

// openCurrent opens message h.n >= Nr of the receiving chain.
func (s *Session) openCurrent(now time.Time, slot []byte, h *header, drained bool, key *keys.ContentKey) error {
	jump, err := jumpTo(s.received, h.n)
	if err != nil {
		return err
	}
	ck := s.recv
	var mk [32]byte
	kept := walk(&ck, s.received, jump, max(0, jump-MaxSkipped), unixSeconds(now))
	chainStep(&ck, &mk)
	ok := s.decrypt(&mk, slot, key)
	clear(mk[:])
	if err := s.admit(ok, jump, drained); err != nil {
		clear(kept)
		clear(ck[:])
		return err
	}
	s.skipped.dropOldest(s.skipped.count + len(kept) - MaxSkipped)
	s.skipped.add(s.remote, h.mixes, kept)
	s.recv, s.received = ck, h.n+1
	clear(ck[:])
	return nil
}

// openNext opens a slot under a ratchet key not seen before: what PN leaves of
// the old receiving chain, then the DH step. The half of it that only sending
// needs waits until the slot is authentic. mixed tells that by its count the new
// chain has mixed the own encapsulation.
func (s *Session) openNext(now time.Time, entropy io.Reader, chain *SendChain, slot []byte, h *header, mixed bool, c *control, drained bool, key *keys.ContentKey) error {
	if chain.Generation > s.generation {
		return ErrRolledBack
	}
	if s.generation == math.MaxUint32 {
		return ErrExhausted
	}
	rest := 0
	if s.receiving() && h.pn > s.received {
		var err error
		if rest, err = jumpTo(s.received, h.pn); err != nil {
			return err
		}
	}
	jump, err := jumpTo(0, h.n)
	if err != nil {
		return err
	}
	var m [32]byte
	if s.awaited != nil {
		var ok bool
		if m, ok = s.awaited.secret(h.ratchet); !ok {
			return ErrShares
		}
	}
	root, ck, err := s.rootFor(h.ratchet, &m)
	if err != nil {
		clear(m[:])
		return err
	}
	if mixed {
		k := s.kemSent()
		root, ck = kemStep(&root, k)
		k.zero()
	}
	old, at := s.recv, unixSeconds(now)
	drop := max(0, rest+jump-MaxSkipped)
	keptOld := walk(&old, s.received, rest, min(drop, rest), at)
	kept := walk(&ck, 0, jump, max(0, drop-rest), at)
	clear(old[:])
	var mk [32]byte
	chainStep(&ck, &mk)
	ok := s.decrypt(&mk, slot, key)
	clear(mk[:])
	err = s.admit(ok, rest+jump, drained)
	var sending turn
	received := s.kemReceived()
	if err == nil {
		if received == nil && s.generation > 0 { // the answer's turn mixes no other secret
			received = c.secret()
		}
		err = s.turn(entropy, &root, h.ratchet, received, &sending)
	}
	if err != nil {
		clear(keptOld)
		clear(kept)
		clear(root[:])
		clear(ck[:])
		if received != s.kemReceived() {
			received.zero()
		}
		return err
	}

	s.skipped.dropOldest(s.skipped.count + len(keptOld) + len(kept) - MaxSkipped)
	s.skipped.add(s.remote, s.currentMixes(), keptOld)
	s.skipped.add(h.ratchet, h.mixes, kept)
	s.pn = s.Chain(*chain).N
	s.remote, s.recv, s.received = h.ratchet, ck, h.n+1
	s.setOwn(sending.own)
	s.root, s.initial, s.hasInitial = sending.root, sending.chain, true
	s.awaited.zero()
	s.awaited, s.policy, s.answer = nil, Paths{}, sending.answer
	s.turned(h.mixes, mixed, received != nil)
	received.zero()
	s.generation++
	*chain = SendChain{Generation: s.generation, Key: s.initial}
	clear(root[:])
	clear(ck[:])
	clear(sending.root[:])
	clear(sending.chain[:])
	return nil
}

// rootFor is the receiving half of a DH step: the root key and the receiving
// chain of a ratchet key not seen before. m is the secret of an awaited answer.
func (s *Session) rootFor(ratchet keys.RatchetPublic, m *[32]byte) (root, ck [32]byte, err error) {
	if s.awaited != nil {
		ordinary, err := s.answerRoot(ratchet)
		if err != nil {
			return root, ck, err
		}
		root, ck = mixStep(ordinary, m, answerTranscript(s.transcript, ratchet))
		return root, ck, nil
	}
	dh, err := s.ratchetKey().DH(ratchet)
	if err != nil {
		return root, ck, err
	}
	root, ck = rootStep(&s.root, dh)
	return root, ck, nil
}

// turn is what a DH step makes for sending.
type turn struct {
	own         keys.RatchetPrivate
	root, chain [32]byte
	answer      []answerShare // of a mixed responder's first
}

// turn is the half of a DH step that only sending needs, from the root key after
// the other half. It mixes what the peer encapsulated, if anything, and changes
// nothing of the session.
func (s *Session) turn(entropy io.Reader, root *[32]byte, remote keys.RatchetPublic, received *kemSecret, t *turn) error {
	if err := t.own.Draw(entropy); err != nil {
		return err
	}
	dh, err := t.own.DH(remote)
	if err != nil {
		return err
	}
	t.root, t.chain = rootStep(root, dh)
	if received != nil {
		t.root, t.chain = kemStep(&t.root, received)
	}
	if s.mixed && s.generation == 0 {
		ordinary := t.root // RKa; its own chain key is not used
		t.root, t.chain, t.answer, err = s.mixAnswer(entropy, &ordinary, t.own.Public())
		clear(ordinary[:])
	}
	return err
}

// receiving tells whether there is a receiving chain: not yet for an initiator
// without an answer, nor for a provisional responder.
func (s *Session) receiving() bool {
	return s.generation > 1 || s.generation == 1 && !s.initiator
}

// jumpTo is how many messages of a chain lie between from and n >= from.
func jumpTo(from, n uint32) (int, error) {
	if n >= MaxChain || n-from > MaxForwardJump {
		return 0, fmt.Errorf("from message %d to %d, at most %d: %w", from, n, MaxForwardJump, ErrJump)
	}
	return int(n - from), nil
}

// walk takes a chain over its next jump messages, of which the first is number
// from, and returns their keys except for the first drop (there is no room).
func walk(ck *[32]byte, from uint32, jump, drop int, at uint32) []skippedKey {
	if jump == 0 {
		return nil
	}
	kept := make([]skippedKey, 0, jump-drop)
	var k skippedKey
	k.at = at
	for i := range jump {
		chainStep(ck, &k.mk)
		if i >= drop {
			k.n = from + uint32(i)
			kept = append(kept, k)
		}
	}
	clear(k.mk[:])
	return kept
}

// admit decides after authentication: is the slot authentic, and is there room
// for the keys it skips?
func (s *Session) admit(authentic bool, skips int, drained bool) error {
	if !authentic {
		return ErrAuth
	}
	if skips > 0 && s.skipped.count+skips > MaxSkipped && !drained {
		return fmt.Errorf("%d kept, %d more, at most %d: %w", s.skipped.count, skips, MaxSkipped, ErrFull)
	}
	return nil
}

// decrypt opens the slot's ciphertext under mk and s.scratch.ad into key.
func (s *Session) decrypt(mk *[32]byte, slot []byte, key *keys.ContentKey) bool {
	plain, err := newAEAD(mk).Open(s.scratch.plain[:0], zeroNonce[:], slot[headerSize:], s.scratch.ad[:])
	if err != nil {
		return false
	}
	err = key.Set(plain)
	clear(plain)
	return err == nil
}

// setOwn makes k the session's ratchet pair.
func (s *Session) setOwn(k keys.RatchetPrivate) {
	s.private.Zero()
	s.private, s.own, s.seed = k, k.Public(), k.Seed()
}

// ratchetKey is the private ratchet key. Building it costs an X25519, so a
// session read from its record builds it at its next DH step.
func (s *Session) ratchetKey() keys.RatchetPrivate {
	if s.private.IsZero() {
		s.private = keys.NewDHPrivate[keys.RoleRatchet](s.seed)
	}
	return s.private
}

func (s *Session) setHeaderKeys(secret [32]byte) {
	s.headerSecret = secret
	s.sendHeader = expand(&secret, tagHeaderInitiator)
	s.recvHeader = expand(&secret, tagHeaderResponder)
	if !s.initiator {
		s.sendHeader, s.recvHeader = s.recvHeader, s.sendHeader
	}
}

// Zero erases every secret of the session; it cannot be used any more.
func (s *Session) Zero() {
	s.skipped.dropOldest(s.skipped.count)
	s.private.Zero()
	s.awaited.zero()
	s.kem.zero()
	*s = Session{}
}

func (s *Session) String() string   { return "[session]" }
func (s *Session) GoString() string { return "[session]" }

var errPrint = errors.New("ratchet: a session or chain was about to be printed")

// MarshalText refuses: a session never becomes text by accident.
func (s *Session) MarshalText() ([]byte, error) { return nil, errPrint }
