package ratchet

import (
	"fmt"
	"io"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// InitiateMixed is Initiate for a path-mixed first contact: a fresh secret m
// enters the first root key and is shared over the paths, shares[i] sealed for
// the path of paths.Relays[i] and for no other. What goes out on that path is
// part, shares[i], the slot of message 0; no share ever goes on another path,
// and what is lost is sent again byte for byte. paths' digest takes the place of
// c.Paths.
//
// The session can send at once and opens its answer by OpenAnswer. It reads 64
// bytes from entropy as Initiate does and encapsulates, then reads 32*K bytes.
//
// Errors: ErrPaths and those of Initiate.
func InitiateMixed(entropy io.Reader, enc Encapsulator, c *Contact, peer *Prekeys, paths Paths) (s *Session, chain SendChain, part [HandshakeSize]byte, shares [][ShareSize]byte, err error) {
	fail := func(err error) (*Session, SendChain, [HandshakeSize]byte, [][ShareSize]byte, error) {
		return nil, SendChain{}, [HandshakeSize]byte{}, nil, fmt.Errorf("ratchet: initiate with seat %s: %w", c.Peer.Seat.Short(), err)
	}
	if err := paths.check(); err != nil {
		return fail(err)
	}
	p, err := propose(entropy, enc, c.with(paths), peer)
	if err != nil {
		return fail(err)
	}
	var m [32]byte
	if _, err := io.ReadFull(entropy, m[:]); err != nil {
		clear(p.sk[:])
		return fail(err)
	}
	values, err := split(entropy, &m, paths.K, len(paths.Relays))
	if err != nil {
		clear(p.sk[:])
		clear(m[:])
		return fail(err)
	}
	k := newShareKeys(p.transcript, &p.sk, tagShareInitiator)
	shares = make([][ShareSize]byte, 0, len(values))
	for i := range values {
		shares = append(shares, k.seal(paths.Relays[i], &values[i]))
	}
	k.zero()
	clear(values)
	s, chain = p.session(c, peer, &m)
	s.mixed, s.awaited = true, newAwaited(paths)
	return s, chain, p.part, shares, nil
}

// with is the contact under a policy.
func (c *Contact) with(paths Paths) *Contact {
	mixed := *c
	mixed.Paths = paths.Digest(c.Group)
	return &mixed
}

// Accepting is a hello under a path-mixed policy, as far as its shares have
// come: one for each differing handshake part, the caller bounds how many. It
// follows from the hellos that carried the shares, so it has no record: whoever
// kept those builds it again, in any order.
type Accepting struct {
	_ [0]func() // not comparable

	self, peer wire.Seat
	transcript wire.Digest
	sk         []byte
	prekey     keys.PrekeyPrivate
	paths      Paths
	keys       shareKeys
	values     [][32]byte
	have       []bool
}

// AcceptMixed begins to answer the handshake part of a hello (1128 bytes) as
// Accept does, under a policy of the own roster, whose digest takes the place of
// c.Paths. Nothing has been proved yet by anybody.
//
// Errors: ErrPaths and those of Accept.
func AcceptMixed(c *Contact, own []PrekeysPrivate, part []byte, paths Paths) (*Accepting, error) {
	fail := func(err error) (*Accepting, error) {
		return nil, fmt.Errorf("ratchet: accept hello of seat %s: %w", c.Peer.Seat.Short(), err)
	}
	if err := paths.check(); err != nil {
		return fail(err)
	}
	sk, t, pre, err := agree(c.with(paths), own, part)
	if err != nil {
		return fail(err)
	}
	return &Accepting{
		self: c.Self.Seat, peer: c.Peer.Seat, transcript: t, sk: sk[:], prekey: pre.Key, paths: paths.clone(),
		keys:   newShareKeys(t, &sk, tagShareInitiator),
		values: make([][32]byte, len(paths.Relays)), have: make([]bool, len(paths.Relays)),
	}, nil
}

// Transcript is T: shares belong together by it, never by what carried them.
func (a *Accepting) Transcript() wire.Digest { return a.transcript }

// Share takes the sealed share that came on the connection to a relay. A second
// one of a path changes nothing; it is ErrShare if it is another.
//
// Errors: ErrPath, and ErrShare for one that does not open: that path failed,
// nothing has changed.
func (a *Accepting) Share(relay keys.RelayPublic, sealed [ShareSize]byte) error {
	i, err := a.paths.place(relay)
	if err != nil {
		return err
	}
	value, err := a.keys.open(relay, &sealed)
	if err != nil {
		return err
	}
	defer clear(value[:])
	if a.have[i] && a.values[i] != value {
		return fmt.Errorf("ratchet: another share on the path of relay %s: %w", relay, ErrShare)
	}
	a.values[i], a.have[i] = value, true
	return nil
}

// Shares is how many paths have brought their share, and how many are needed.
func (a *Accepting) Shares() (have, need int) {
	for _, ok := range a.have {
		if ok {
			have++
		}
	}
	return have, a.paths.K
}

// Ready is the session once enough shares are in: provisional as that of
// Accept, until message 0 has opened with it. Each call makes a new one.
func (a *Accepting) Ready() (*Session, bool) {
	at := make([]int, 0, MaxPaths)
	values := make([][32]byte, 0, MaxPaths)
	for i := range a.have {
		if a.have[i] && len(at) < a.paths.K {
			at = append(at, i)
			values = append(values, a.values[i])
		}
	}
	if len(at) < a.paths.K || len(a.sk) == 0 {
		return nil, false
	}
	m := combine(at, values)
	clear(values)
	sk := [32]byte(a.sk)
	s := provisional(a.self, a.peer, a.transcript, &sk, &m, a.prekey)
	s.mixed, s.policy = true, a.paths
	return s, true
}

// Zero erases what the shares and the key agreement gave; the caller does so
// when message 0 has opened, and when the attempt is given up.
func (a *Accepting) Zero() {
	clear(a.sk)
	clear(a.values)
	a.keys.zero()
	*a = Accepting{}
}

func (a *Accepting) String() string   { return "[accepting]" }
func (a *Accepting) GoString() string { return "[accepting]" }

// MarshalText refuses: its secrets never become text by accident.
func (a *Accepting) MarshalText() ([]byte, error) { return nil, errPrint }
