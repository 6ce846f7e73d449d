package member

// ancestors is a set of operations by the index under which a roster keeps
// them: all below 64*full, and those whose bit is set after that. Whoever knew
// everything costs a word; a past that leaves one old operation out costs a bit
// for each that came since.
type ancestors struct {
	full int
	bits []uint64
}

func (a *ancestors) has(i int) bool {
	w := i>>6 - a.full
	return w < 0 || w < len(a.bits) && a.bits[w]&(1<<(i&63)) != 0
}

func (a *ancestors) add(i int) {
	w := i>>6 - a.full
	if w < 0 {
		return
	}
	for len(a.bits) <= w {
		a.bits = append(a.bits, 0)
	}
	a.bits[w] |= 1 << (i & 63)
}

func (a *ancestors) union(b *ancestors) {
	if b.full > a.full {
		a.bits = a.bits[min(b.full-a.full, len(a.bits)):]
		a.full = b.full
	}
	for i, w := range b.bits {
		if k := i + b.full - a.full; k >= 0 {
			for len(a.bits) <= k {
				a.bits = append(a.bits, 0)
			}
			a.bits[k] |= w
		}
	}
}

// trim turns words that are full into the prefix.
func (a *ancestors) trim() {
	n := 0
	for n < len(a.bits) && a.bits[n] == ^uint64(0) {
		n++
	}
	a.full += n
	a.bits = append([]uint64(nil), a.bits[n:]...)
}
