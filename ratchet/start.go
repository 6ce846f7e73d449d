package ratchet

import (
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Party is one end of a session. The announcement's digest authenticates
// everything else of that seat, its prekeys included.
type Party struct {
	Seat         wire.Seat
	Announcement wire.Digest
	Identity     keys.IdentityPublic
}

// Prekeys are the peer's, from its announcement, whose signature the caller has
// checked.
type Prekeys struct {
	ID    uint32
	Key   keys.PrekeyPublic
	KEMID uint32
	KEM   [mlkem.EncapsulationKeySize768]byte
}

// PrekeysPrivate are one's own, of the current or an earlier announcement.
type PrekeysPrivate struct {
	ID    uint32
	Key   keys.PrekeyPrivate
	KEMID uint32
	KEM   *mlkem.DecapsulationKey768
}

// Encapsulator draws the randomness of ML-KEM: broadcast.Entropy is one.
type Encapsulator interface {
	Encapsulate(*mlkem.EncapsulationKey768) (shared, ciphertext []byte)
}

// Contact is what a side knows of a first contact before it begins. All of it
// comes from its own roster, announcements and keys, nothing from a message.
type Contact struct {
	Group    wire.GroupID
	Self     Party
	Identity keys.IdentityPrivate // of Self
	Peer     Party
	Paths    [32]byte // Paths.Digest, pol; InitiateMixed and AcceptMixed set it themselves
	Attempt  uint64
}

// check refuses contacts that no honest caller makes.
func (c *Contact) check() error {
	if c.Self.Seat == c.Peer.Seat {
		return fmt.Errorf("ratchet: contact of seat %s: %w", c.Self.Seat.Short(), ErrSelf)
	}
	if c.Identity.IsZero() || c.Identity.Public() != c.Self.Identity {
		return fmt.Errorf("ratchet: contact of seat %s: %w", c.Self.Seat.Short(), ErrIdentity)
	}
	return nil
}

// handshake is the handshake part of a hello, 1128 bytes.
type handshake struct {
	ephemeral  keys.RatchetPublic
	ciphertext [mlkem.CiphertextSize768]byte
	prekey     uint32
	kem        uint32
}

func (h *handshake) encode() (b [HandshakeSize]byte) {
	n := copy(b[:], h.ephemeral[:])
	n += copy(b[n:], h.ciphertext[:])
	binary.BigEndian.PutUint32(b[n:], h.prekey)
	binary.BigEndian.PutUint32(b[n+4:], h.kem)
	return b
}

func parseHandshake(b []byte) (h handshake, err error) {
	r := wire.NewReader(b)
	r.Fixed(h.ephemeral[:])
	r.Fixed(h.ciphertext[:])
	h.prekey = r.U32()
	h.kem = r.U32()
	if err := r.Done(); err != nil {
		return handshake{}, fmt.Errorf("ratchet: handshake part of %d bytes: %w", len(b), err)
	}
	return h, nil
}

// HandshakeIDs reads which prekeys a handshake part (1128 bytes) was made from,
// so that the caller can find the announcement they stood in.
func HandshakeIDs(b []byte) (prekey, kem uint32, err error) {
	h, err := parseHandshake(b)
	return h.prekey, h.kem, err
}

// HandshakeTranscript is the transcript T of a hello received by c.Self from
// c.Peer, without any of its cryptography: callers remember T while the prekeys
// live and drop replays by it. b is the handshake part, 1128 bytes.
func HandshakeTranscript(c *Contact, b []byte) (wire.Digest, error) {
	h, err := parseHandshake(b)
	if err != nil {
		return wire.Digest{}, err
	}
	return transcript(c, &c.Peer, &c.Self, &h), nil
}

// transcript is T: a is the initiator, b the responder.
func transcript(c *Contact, a, b *Party, h *handshake) wire.Digest {
	// One buffer: wire.Hash gives the same and allocates for each part.
	return sha256.Sum256(wire.Input(tagFirst, c.Group[:], a.Seat[:], b.Seat[:],
		a.Announcement[:], b.Announcement[:], a.Identity[:], b.Identity[:],
		h.ephemeral[:], h.ciphertext[:],
		wire.U64(uint64(h.prekey)), wire.U64(uint64(h.kem)),
		c.Paths[:], wire.U64(c.Attempt)))
}

// keyAgreement is SK of PQXDH, section 3.3: HKDF over F || DH1 || DH2 || DH3 ||
// SS. It erases what it is given.
func keyAgreement(dh1, dh2, dh3, ss []byte) [32]byte {
	km := make([]byte, 32, 5*32)
	for i := range km {
		km[i] = 0xff
	}
	for _, secret := range [...][]byte{dh1, dh2, dh3, ss} {
		km = append(km, secret...)
		clear(secret)
	}
	sk := derive(new([32]byte), km, tagStart)
	clear(km)
	return sk
}

// begin makes what both sides have of a session after the key agreement: the
// mixed root key and the header keys. m is the secret that the paths carry in
// shares, 32 zero bytes in an unmixed contact. It erases sk and m.
func begin(self, peer wire.Seat, initiator bool, t wire.Digest, sk, m *[32]byte) *Session {
	s := &Session{initiator: initiator, transcript: t, self: self, peer: peer}
	var ikm [64]byte
	copy(ikm[:], m[:])
	copy(ikm[32:], t[:])
	s.root = derive(sk, ikm[:], tagMixInitiator)
	s.setHeaderKeys(extract(sk, t[:]))
	clear(ikm[:])
	clear(sk[:])
	clear(m[:])
	return s
}

// Initiate starts a session with c.Peer from its prekeys (PQXDH section 3.3,
// then RatchetInitAlice). It reads 64 bytes from entropy, for the ephemeral and
// the first ratchet key, and encapsulates once. The session can send at once,
// with the returned chain; the handshake part goes in front of message 0.
//
// Errors: ErrSelf, ErrIdentity, keys.ErrSmallOrder, wire.ErrFormat for an
// ML-KEM key that is not one, and those of entropy.
func Initiate(entropy io.Reader, enc Encapsulator, c *Contact, peer *Prekeys) (*Session, SendChain, [HandshakeSize]byte, error) {
	p, err := propose(entropy, enc, c, peer)
	if err != nil {
		return nil, SendChain{}, [HandshakeSize]byte{}, fmt.Errorf("ratchet: initiate with seat %s: %w", c.Peer.Seat.Short(), err)
	}
	s, chain := p.session(c, peer, new([32]byte))
	return s, chain, p.part, nil
}

// proposal is what an initiator has after PQXDH.
type proposal struct {
	transcript wire.Digest
	sk         [32]byte // SK0
	ratchet    keys.RatchetPrivate
	first      []byte // DH of ratchet with the prekey
	part       [HandshakeSize]byte
}

func propose(entropy io.Reader, enc Encapsulator, c *Contact, peer *Prekeys) (*proposal, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	kem, err := mlkem.NewEncapsulationKey768(peer.KEM[:])
	if err != nil {
		return nil, fmt.Errorf("ML-KEM key %d: %w: %w", peer.KEMID, wire.ErrFormat, err)
	}
	var ephemeral, ratchet keys.RatchetPrivate
	if err := ephemeral.Draw(entropy); err != nil {
		return nil, err
	}
	if err := ratchet.Draw(entropy); err != nil {
		return nil, err
	}
	dh1, err := c.Identity.DH(peer.Key)
	if err != nil {
		return nil, err
	}
	dh2, err := ephemeral.DH(c.Peer.Identity)
	if err != nil {
		return nil, err
	}
	dh3, err := ephemeral.DH(peer.Key)
	if err != nil {
		return nil, err
	}
	first, err := ratchet.DH(peer.Key)
	if err != nil {
		return nil, err
	}
	ss, ct := enc.Encapsulate(kem)
	h := handshake{ephemeral: ephemeral.Public(), prekey: peer.ID, kem: peer.KEMID}
	if len(ss) != mlkem.SharedKeySize || copy(h.ciphertext[:], ct) != len(h.ciphertext) {
		return nil, fmt.Errorf("encapsulation of %d and %d bytes: %w", len(ss), len(ct), wire.ErrFormat)
	}
	ephemeral.Zero()
	return &proposal{
		transcript: transcript(c, &c.Self, &c.Peer, &h), sk: keyAgreement(dh1, dh2, dh3, ss),
		ratchet: ratchet, first: first, part: h.encode(),
	}, nil
}

// session is RatchetInitAlice after the mix of m. It uses the proposal up.
func (p *proposal) session(c *Contact, peer *Prekeys, m *[32]byte) (*Session, SendChain) {
	s := begin(c.Self.Seat, c.Peer.Seat, true, p.transcript, &p.sk, m)
	s.remote = keys.RatchetPublic(peer.Key)
	s.setOwn(p.ratchet)
	s.root, s.initial = rootStep(&s.root, p.first)
	s.generation, s.hasInitial = 1, true
	return s, s.Chain(SendChain{})
}

// Accept answers the handshake part of a hello (1128 bytes) from c.Peer (PQXDH
// section 3.4, then RatchetInitBob). own are the prekeys still held, current and
// earlier; c.Self.Announcement is the digest of the announcement that the hello
// was made from, else the transcripts differ.
//
// The session is provisional: it proves nothing, cannot send and has no record
// until message 0 has opened with it; the caller keeps it only then. Its first
// sending chain comes with that Open.
//
// Errors: ErrSelf, ErrIdentity, ErrPrekey, keys.ErrSmallOrder, and those of
// wire.Reader for another size.
func Accept(c *Contact, own []PrekeysPrivate, part []byte) (*Session, error) {
	sk, t, pre, err := agree(c, own, part)
	if err != nil {
		return nil, fmt.Errorf("ratchet: accept hello of seat %s: %w", c.Peer.Seat.Short(), err)
	}
	return provisional(c.Self.Seat, c.Peer.Seat, t, &sk, new([32]byte), pre.Key), nil
}

// agree is the responder's PQXDH: SK0, the transcript and the prekeys that the
// hello was made from.
func agree(c *Contact, own []PrekeysPrivate, part []byte) (sk [32]byte, t wire.Digest, pre *PrekeysPrivate, err error) {
	if err = c.check(); err != nil {
		return
	}
	h, err := parseHandshake(part)
	if err != nil {
		return
	}
	for i := range own {
		if own[i].ID == h.prekey && own[i].KEMID == h.kem {
			pre = &own[i]
			break
		}
	}
	if pre == nil || pre.Key.IsZero() || pre.KEM == nil {
		err = fmt.Errorf("prekey %d, ML-KEM key %d: %w", h.prekey, h.kem, ErrPrekey)
		return
	}
	dh1, err := pre.Key.DH(c.Peer.Identity)
	if err != nil {
		return
	}
	dh2, err := c.Identity.DH(h.ephemeral)
	if err != nil {
		return
	}
	dh3, err := pre.Key.DH(h.ephemeral)
	if err != nil {
		return
	}
	ss, err := pre.KEM.Decapsulate(h.ciphertext[:])
	if err != nil {
		return
	}
	return keyAgreement(dh1, dh2, dh3, ss), transcript(c, &c.Peer, &c.Self, &h), pre, nil
}

// provisional is RatchetInitBob after the mix of m. It erases sk and m.
func provisional(self, peer wire.Seat, t wire.Digest, sk, m *[32]byte, prekey keys.PrekeyPrivate) *Session {
	s := begin(self, peer, false, t, sk, m)
	// The prekey pair is the responder's first ratchet pair: a second role
	// that the specification gives it, hence the conversion.
	s.private = keys.RatchetPrivate(prekey)
	s.own = s.private.Public()
	return s
}
