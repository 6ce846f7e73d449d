package adversary

import (
	"io"
	"slices"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// ciphertextAt is where an envelope's ciphertext begins: behind the sealed
// header (74) and the commitment (32).
const ciphertextAt = 74 + 32

// honest is the answer of a lie that leaves an entry as it is.
func honest(m proto.Message) []proto.Message { return []proto.Message{m} }

// ofBundles makes a Lie of one about bundles.
func ofBundles(f func(proto.Deliver, io.Reader) []proto.Message) Lie {
	return func(m proto.Message, random io.Reader) []proto.Message {
		if d, ok := m.(proto.Deliver); ok {
			return f(d, random)
		}
		return honest(m)
	}
}

// Alter shows another ciphertext. The mask is a stream, so flipping its bits
// flips those under it.
func Alter() Lie {
	return ofBundles(func(d proto.Deliver, _ io.Reader) []proto.Message {
		d.Envelope = slices.Clone(d.Envelope)
		for i := ciphertextAt; i < min(ciphertextAt+16, len(d.Envelope)); i++ {
			d.Envelope[i] ^= 0x55
		}
		return honest(d)
	})
}

// Spoil shows the right envelope with a slot of random bytes. The digest of
// the slot block stays, so that the relay's signature still holds: nobody can
// prove whose bytes they are.
func Spoil() Lie {
	return ofBundles(func(d proto.Deliver, random io.Reader) []proto.Message {
		d.Slot = make([]byte, len(d.Slot))
		draw(random, d.Slot)
		return honest(d)
	})
}

// Replay shows the bundle before once more, under a number of its own.
func Replay() Lie {
	var last *proto.Deliver
	return ofBundles(func(d proto.Deliver, _ io.Reader) []proto.Message {
		old := last
		last = &d
		if old == nil {
			return honest(d)
		}
		return []proto.Message{*old, d}
	})
}

// Withhold shows the number bare: its digest, not its bytes. Nobody can prove
// that the mailbox was in the list.
func Withhold() Lie {
	return ofBundles(func(d proto.Deliver, _ io.Reader) []proto.Message {
		return honest(proto.Bare{N: d.N, D: d.Digest(), Root: d.Root})
	})
}

// Blank shows the number bare, with the digest of nothing that exists.
func Blank() Lie {
	return ofBundles(func(d proto.Deliver, random io.Reader) []proto.Message {
		var digest wire.Digest
		draw(random, digest[:])
		return honest(proto.Bare{N: d.N, D: digest, Root: d.Root})
	})
}

// Renumber shows two bundles in the other order, each under the number that
// the relay gave the other.
func Renumber() Lie {
	var held *proto.Deliver
	return ofBundles(func(d proto.Deliver, _ io.Reader) []proto.Message {
		if held == nil {
			held = &d
			return nil
		}
		first := *held
		held = nil
		return []proto.Message{d, first}
	})
}

// Omit leaves bundles out: later ones move up.
func Omit() Lie {
	return ofBundles(func(proto.Deliver, io.Reader) []proto.Message { return nil })
}

// Bundles lets a lie see the bundles from the first on, count of them (zero:
// all), and is honest otherwise. The first bundle is number 1.
func Bundles(first, count int, lie Lie) Lie {
	seen := 0
	return ofBundles(func(d proto.Deliver, random io.Reader) []proto.Message {
		seen++
		if seen < first || count > 0 && seen >= first+count {
			return honest(d)
		}
		return lie(d, random)
	})
}

// From lets a lie see the bundles of one sender, which the coalition reads from
// their headers, and is honest otherwise.
func From(i *Insider, sender wire.Seat, lie Lie) Lie {
	return ofBundles(func(d proto.Deliver, random io.Reader) []proto.Message {
		if h, ok := i.Header(d); ok && h.Seat == sender {
			return lie(d, random)
		}
		return honest(d)
	})
}

// ofDigests makes a Lie of one about the digests of bundles that others carry.
func ofDigests(f func(proto.DeliverDigest, io.Reader) []proto.Message) Lie {
	return func(m proto.Message, random io.Reader) []proto.Message {
		if d, ok := m.(proto.DeliverDigest); ok {
			return f(d, random)
		}
		return honest(m)
	}
}

// Mute shows digests bare.
func Mute() Lie {
	return ofDigests(func(d proto.DeliverDigest, _ io.Reader) []proto.Message {
		return honest(proto.Bare{N: d.N, D: d.Digest(), Root: d.Root})
	})
}

// Starve shows bundles and digests bare.
func Starve() Lie {
	withhold, mute := Withhold(), Mute()
	return func(m proto.Message, random io.Reader) []proto.Message {
		if _, ok := m.(proto.Deliver); ok {
			return withhold(m, random)
		}
		return mute(m, random)
	}
}

// Bend shows digests with a flipped bit, as a relay can that has no key.
func Bend() Lie {
	return ofDigests(func(d proto.DeliverDigest, _ io.Reader) []proto.Message {
		d.Sealed[0] ^= 1
		return honest(d)
	})
}

// Misdigest shows the digests of nothing in the place of true ones.
func Misdigest(i *Insider) Lie {
	return ofDigests(func(d proto.DeliverDigest, random io.Reader) []proto.Message {
		var nothing wire.Digest
		draw(random, nothing[:])
		d.Sealed = broadcast.SealDigest(i.Group, i.Epoch[len(i.Epoch)-1], i.Relay, d.Nonce, nothing)
		return honest(d)
	})
}

// OnlyDigest shows the digest of a bundle in its place, as if the relay were no
// carrier.
func OnlyDigest(i *Insider) Lie {
	return ofBundles(func(d proto.Deliver, _ io.Reader) []proto.Message {
		of, ok := i.Digest(d)
		if !ok {
			return honest(d)
		}
		return honest(proto.DeliverDigest{N: d.N, Root: d.Root, Hint: d.Hint, Nonce: d.Nonce,
			Sealed: broadcast.SealDigest(i.Group, i.Epoch[len(i.Epoch)-1], i.Relay, d.Nonce, of)})
	})
}
