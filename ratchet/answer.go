package ratchet

import (
	"fmt"
	"io"
	"slices"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// awaited is what the initiator of a mixed contact has of the answer's shares.
// A share is staged with the ratchet key of the answer that it opened for, since
// a responder that was set back may answer twice; one a path, the newest.
type awaited struct {
	paths  Paths
	staged []stagedShare

	// RKa of the ratchet key that was last asked for: the answer comes on every
	// path, and each copy would cost an X25519. Not in the record.
	last    keys.RatchetPublic
	root    [32]byte
	hasRoot bool
}

type stagedShare struct {
	here    bool
	ratchet keys.RatchetPublic
	value   [32]byte
}

func newAwaited(p Paths) *awaited {
	return &awaited{paths: p.clone(), staged: make([]stagedShare, len(p.Relays))}
}

// enough gives k shares for the answer with a ratchet key, nil if there are
// less.
func (a *awaited) enough(ratchet keys.RatchetPublic) (at []int, values [][32]byte) {
	at, values = make([]int, 0, a.paths.K), make([][32]byte, 0, a.paths.K)
	for i := range a.staged {
		if s := &a.staged[i]; s.here && s.ratchet == ratchet && len(at) < a.paths.K {
			at = append(at, i)
			values = append(values, s.value)
		}
	}
	if len(at) < a.paths.K {
		clear(values)
		return nil, nil
	}
	return at, values
}

// secret is m' of the answer with a ratchet key.
func (a *awaited) secret(ratchet keys.RatchetPublic) (m [32]byte, ok bool) {
	at, values := a.enough(ratchet)
	if at == nil {
		return m, false
	}
	m = combine(at, values)
	clear(values)
	return m, true
}

func (a *awaited) zero() {
	if a != nil {
		clear(a.staged)
		clear(a.root[:])
		a.hasRoot = false
	}
}

// answerShare is what the responder keeps for a path until it is confirmed.
type answerShare struct {
	relay  keys.RelayPublic
	sealed [ShareSize]byte
}

// Mixed tells that the first contact of this session was path-mixed.
func (s *Session) Mixed() bool { return s.mixed }

// AnswerShare is the sealed share (48 bytes) that rides in front of every slot
// on the path of a relay until Confirmed, always the same bytes. It goes on that
// path only. It is false for a session that needs none: unmixed, the
// initiator's, confirmed, or of a policy without that relay.
func (s *Session) AnswerShare(relay keys.RelayPublic) (sealed [ShareSize]byte, ok bool) {
	i := slices.IndexFunc(s.answer, func(a answerShare) bool { return a.relay == relay })
	if i < 0 {
		return sealed, false
	}
	return s.answer[i].sealed, true
}

// AnswerShares is how many paths have brought their share of the answer with
// the most of them, and how many are needed; 0, 0 when none is awaited.
func (s *Session) AnswerShares() (have, need int) {
	if s.awaited == nil {
		return 0, 0
	}
	count := make(map[keys.RatchetPublic]int)
	for i := range s.awaited.staged {
		if p := &s.awaited.staged[i]; p.here {
			count[p.ratchet]++
			have = max(have, count[p.ratchet])
		}
	}
	return have, s.awaited.paths.K
}

// OpenAnswer opens an answering slot (136 bytes: share 48, slot 88) that came on
// the connection to a relay. While the session awaits the shares of its answer,
// the share is staged in it once it has opened, one for each path; with enough
// of them the slot opens, as do all others of its chain by Open. In any other
// session the share is not looked at and this is Open.
//
// Errors: those of Open; besides, while shares are awaited,
//
//   - ErrShares: this path's share is staged, others are missing: not a failure;
//     keep the slot and try it again by Open when another path's has come.
//   - ErrShare: the share does not open: the path failed. ErrPath: the relay is
//     not of the policy. Nothing has changed, and others were missing.
//
// After ErrShares, ErrAuth, ErrJump and ErrFull the share may have been staged:
// store the session's record.
func (s *Session) OpenAnswer(now time.Time, entropy io.Reader, chain *SendChain, relay keys.RelayPublic, slot []byte, d wire.Digest) (keys.ContentKey, error) {
	return s.openAnswer(now, entropy, chain, relay, slot, d, false)
}

// OpenAnswerDrained is to OpenAnswer what OpenDrained is to Open.
func (s *Session) OpenAnswerDrained(now time.Time, entropy io.Reader, chain *SendChain, relay keys.RelayPublic, slot []byte, d wire.Digest) (keys.ContentKey, error) {
	return s.openAnswer(now, entropy, chain, relay, slot, d, true)
}

func (s *Session) openAnswer(now time.Time, entropy io.Reader, chain *SendChain, relay keys.RelayPublic, slot []byte, d wire.Digest, drained bool) (keys.ContentKey, error) {
	if len(slot) != AnsweringSlotSize {
		return keys.ContentKey{}, fmt.Errorf("ratchet: answering slot of %d bytes, not %d: %w", len(slot), AnsweringSlotSize, wire.ErrFormat)
	}
	if s.awaited != nil {
		h, _ := s.readHeader(slot[ShareSize:])
		sealed := [ShareSize]byte(slot)
		if err := s.stage(relay, &h, &sealed); err != nil {
			// A lying share beside a true slot: others may suffice for it.
			if at, values := s.awaited.enough(h.ratchet); at == nil {
				return keys.ContentKey{}, s.refused(err)
			} else {
				clear(values)
			}
		}
	}
	return s.open(now, entropy, chain, slot[ShareSize:], d, drained, nil)
}

// stage keeps a path's share of the answer under header h if it opens.
func (s *Session) stage(relay keys.RelayPublic, h *header, sealed *[ShareSize]byte) error {
	i, err := s.awaited.paths.place(relay)
	if err != nil {
		return err
	}
	if h.mixes != 1 {
		return ErrAuth
	}
	root, err := s.answerRoot(h.ratchet)
	if err != nil {
		return err
	}
	k := newShareKeys(answerTranscript(s.transcript, h.ratchet), root, tagShareResponder)
	value, err := k.open(relay, sealed)
	k.zero()
	if err != nil {
		return err
	}
	s.awaited.staged[i] = stagedShare{here: true, ratchet: h.ratchet, value: value}
	clear(value[:])
	return nil
}

// answerRoot is RKa, the root key that the ordinary step gives for the ratchet
// key of an answer; the chain key beside it is not used.
func (s *Session) answerRoot(ratchet keys.RatchetPublic) (*[32]byte, error) {
	a := s.awaited
	if a.hasRoot && a.last == ratchet {
		return &a.root, nil
	}
	dh, err := s.ratchetKey().DH(ratchet)
	if err != nil {
		return nil, err
	}
	var unused [32]byte
	a.root, unused = rootStep(&s.root, dh)
	a.last, a.hasRoot = ratchet, true
	clear(unused[:])
	return &a.root, nil
}

// mixAnswer makes the responder's first sending chain of the ordinary root key
// RKa: a secret of its own is shared over the paths of the policy and mixed in.
// It reads 32*K bytes from entropy and changes nothing of the session.
func (s *Session) mixAnswer(entropy io.Reader, root *[32]byte, own keys.RatchetPublic) (next, chain [32]byte, answer []answerShare, err error) {
	var m [32]byte
	if _, err = io.ReadFull(entropy, m[:]); err != nil {
		return
	}
	values, err := split(entropy, &m, s.policy.K, len(s.policy.Relays))
	if err != nil {
		clear(m[:])
		return
	}
	t := answerTranscript(s.transcript, own)
	k := newShareKeys(t, root, tagShareResponder)
	answer = make([]answerShare, 0, len(values))
	for i, relay := range s.policy.Relays {
		answer = append(answer, answerShare{relay: relay, sealed: k.seal(relay, &values[i])})
	}
	k.zero()
	clear(values)
	next, chain = mixStep(root, &m, t)
	return
}

// Root mixes (docs/protocol.md sections 5.3 and 5.4): what the header's count
// says. The start's mix is not counted, since the policy in T tells of it; the
// answer's is, and each encapsulation's.

// mixes is the count of the own sending chain.
func (s *Session) mixes() uint8 {
	if s.kem != nil {
		return s.kem.sending
	}
	return count(s.mixed && s.receiving())
}

// currentMixes is the count that the receiving chain's headers have: the
// responder's first one began before the answer.
func (s *Session) currentMixes() uint8 {
	if s.kem != nil {
		return s.kem.receiving
	}
	return count(s.mixed && s.generation > 1)
}

// nextMixes is the count that the headers of the next receiving chain have,
// unless it mixes the own encapsulation.
func (s *Session) nextMixes() uint8 {
	if s.kem != nil {
		return s.kem.sending
	}
	return count(s.mixed && s.generation > 0)
}

func count(mixed bool) uint8 {
	if mixed {
		return 1
	}
	return 0
}
