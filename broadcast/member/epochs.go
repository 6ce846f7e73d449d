package member

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Epochs: under one of them a membership sends, under all that it holds it
// reads. Keys are kept by number, since a later operation can say that another
// one is in use.

// heldEpoch is an epoch key that this membership has.
type heldEpoch struct {
	Epoch
	// checked: the genesis or an operation commits to it, or to all that it was
	// made of. Others came in a welcome, and open what they open.
	checked bool
	until   int64 // Unix seconds when it is erased; 0: it is in use, or an epoch head's
}

// epochRecord is a heldEpoch as it is stored.
type epochRecord struct {
	Number  uint64
	Key     []byte
	Checked bool  `json:",omitempty"`
	Until   int64 `json:",omitempty"`
}

// epoch is the one in use.
func (k *keyring) epoch() *heldEpoch { return k.epochAt(k.inUse) }

// epochAt is the epoch of a number; nil: its key is not here.
func (k *keyring) epochAt(number uint64) *heldEpoch {
	i := slices.IndexFunc(k.epochs, func(e *heldEpoch) bool { return e.Number == number })
	if i < 0 {
		return nil
	}
	return k.epochs[i]
}

// first is the group's first epoch, whose key names what lies on the boards.
func (k *keyring) first() *heldEpoch { return k.epochAt(FirstEpoch) }

// hold keeps an epoch key. A number is one key's: the checked one's.
func (k *keyring) hold(e Epoch, checked bool) *heldEpoch {
	was := k.epochAt(e.Number)
	switch {
	case was != nil && was.Key.Equal(&e.Key):
		was.checked = was.checked || checked
		return was
	case was != nil && (was.checked || !checked):
		return was
	case was != nil:
		was.Key, was.checked = e.Key, true
		k.turns++
		return was
	}
	held := &heldEpoch{Epoch: e, checked: checked}
	i, _ := slices.BinarySearchFunc(k.epochs, e.Number, func(o *heldEpoch, n uint64) int { return cmp.Compare(o.Number, n) })
	k.epochs = slices.Insert(k.epochs, i, held)
	k.turns++
	return held
}

// list is what a welcome holds: the first epoch, and of the others the newest.
func (k *keyring) list() []Epoch {
	list := []Epoch{k.first().Epoch}
	for _, e := range k.epochs[max(1, len(k.epochs)-MaxEpochs+1):] {
		list = append(list, e.Epoch)
	}
	return list
}

// saveEpochs stores the epoch keys, with the meta record.
func (m *Machine) saveEpochs() {
	k, meta := m.keyring, m.meta
	meta.Epochs, meta.InUse = nil, k.inUse
	for _, e := range k.epochs {
		meta.Epochs = append(meta.Epochs, epochRecord{e.Number, bytes.Clone(e.Key.Expose()), e.checked, e.until})
	}
	m.saveMeta()
}

// pathKeys are what a path's entries and bundles are recognised by, newest epoch
// first; made when they are first needed.
type pathKeys struct {
	turns  int // of the keyring that they are of
	made   bool
	epochs []pathEpoch
	doors  []broadcast.BoardKeys
	rooms  []pathRoom
}

type pathEpoch struct {
	*heldEpoch
	board broadcast.BoardKeys
	hint  [broadcast.HintSize]byte
}

// keysOf makes a path's keys if they are not those of now.
func (m *Machine) keysOf(p *path) *pathKeys {
	k := m.keyring
	if p.keys.made && p.keys.turns == k.turns {
		return &p.keys
	}
	p.keys = pathKeys{turns: k.turns, made: true}
	p.keys.rooms = m.roomKeys(p)
	doors := broadcast.NewBoardKeys(k.channels.Expose(), p.ref.Key)
	if len(k.epochs) == 0 && m.meta.Asking != nil {
		return &p.keys // the link opens a room and no door
	}
	if len(k.epochs) == 0 {
		p.keys.doors = []broadcast.BoardKeys{broadcast.NewBoardKeys(k.door.Expose(), p.ref.Key).Named(doors)}
		return &p.keys
	}
	names := broadcast.NewBoardKeys(k.first().Key.Expose(), p.ref.Key)
	for _, e := range slices.Backward(k.epochs) {
		p.keys.epochs = append(p.keys.epochs, pathEpoch{e, broadcast.NewBoardKeys(e.Key.Expose(), p.ref.Key).Named(names), broadcast.Hint(&e.Key, p.ref.Key)})
		door := DoorKey(&e.Key, m.gid)
		p.keys.doors = append(p.keys.doors, broadcast.NewBoardKeys(door.Expose(), p.ref.Key).Named(doors))
		door.Zero()
	}
	return &p.keys
}

// boardKeys are those of a path under every epoch, newest first.
func (m *Machine) boardKeys(p *path) (list []broadcast.BoardKeys) {
	for _, e := range m.keysOf(p).epochs {
		list = append(list, e.board)
	}
	return list
}

// at is an epoch among a path's keys; nil: its key is not here.
func (k *pathKeys) at(number uint64) *pathEpoch {
	i := slices.IndexFunc(k.epochs, func(e pathEpoch) bool { return e.Number == number })
	if i < 0 {
		return nil
	}
	return &k.epochs[i]
}

// entryName is the masked name of an entry under the epoch keys.
func (m *Machine) entryName(p *path, name string) wire.Digest {
	return m.keysOf(p).epochs[0].board.Name(name)
}

// fits finds the held key of an epoch head.
func (m *Machine) fits(h *EpochHead) *heldEpoch {
	e := m.keyring.epochAt(h.Number)
	switch {
	case e == nil:
		return nil
	case h.Operation == wire.Digest(m.gid):
		e.checked = e.checked || FirstCommitment(&e.Key) == m.genesis.Epoch
	case EpochCommitment(m.gid, &e.Key) != h.Commitment:
		return nil
	case !e.checked:
		e.checked = OpEpoch{Commitment: h.Commitment, Postings: h.Postings}.Fits(m.gid, &e.Key)
	}
	if !e.checked {
		return nil
	}
	return e
}

// turnEpoch goes over to what is in use under these heads, if the keys of all
// are here. What was in use before is kept for the retention time, since relays
// and members go over one by one.
func (m *Machine) turnEpoch(heads []EpochHead) {
	k := m.keyring
	if k == nil || len(k.epochs) == 0 {
		return
	}
	var list []keys.EpochKey
	standing := map[uint64]bool{FirstEpoch: true}
	for i := range heads {
		e := m.fits(&heads[i])
		if e == nil {
			return
		}
		list = append(list, e.Key)
		standing[e.Number] = true
	}
	now, err := EpochInUse(m.gid, heads, list)
	if err != nil {
		return
	}
	was := k.inUse
	held := k.hold(now, true)
	if held.Number == was && held.Key.Equal(&now.Key) {
		return
	}
	k.inUse = held.Number
	m.governed, m.askedLook = false, true
	m.meta.Taught = m.now.Unix() // by who began it
	for _, p := range m.paths {
		if p.taking.number == 0 {
			p.taking.number = was // until it is refused: relays go over one by one
		}
		p.retryPosts()
	}
	standing[held.Number] = true
	for _, e := range k.epochs {
		switch {
		case standing[e.Number]:
			e.until = 0
		case e.until == 0:
			e.until = m.now.Add(m.retention()).Unix()
		}
	}
	m.saveEpochs()
}

// pageVersion is the version of a roster page with so many operations, as it is
// sealed now: it grows with the page and with the epoch's generation.
func (m *Machine) pageVersion(operations int) uint64 {
	return generation(m.keyring.inUse)<<32 | uint64(operations)
}

// operationsOf is how many operations a page of this version has.
func operationsOf(version uint64) uint64 { return version & (1<<32 - 1) }

// sealedIn is the generation of the epoch under which the boards show an own page,
// or will when they have what was posted in this opening.
func (m *Machine) sealedIn(page int) (g uint64) {
	for _, p := range m.paths {
		g = max(g, generation(m.shownVersion(p, pageName(m.self, page))))
	}
	return max(g, m.sealed[page])
}

// sealAgain writes own pages and evidence anew under the epoch in use whose key goes before
// the next look, so that nobody needs it by then. The first epoch's never goes.
func (m *Machine) sealAgain() {
	stays := m.staying(m.retention() / 2)
	m.sealEvidence(stays)
	for i := range m.pages {
		all := !stays[m.sealedIn(i)]
		for _, p := range m.paths {
			// On a relay that came earlier or later it may be of another generation.
			v := m.shownVersion(p, pageName(m.self, i))
			if p.keepsBoard() && (all || v > 0 && !stays[generation(v)]) {
				m.putPage(p, i)
			}
		}
	}
}

// eraseEpochs forgets keys that the retention time is over for, unless something
// in the outbox is sealed under them.
func (m *Machine) eraseEpochs() {
	if m.keyring == nil {
		return
	}
	k, n := m.keyring, len(m.keyring.epochs)
	k.epochs = slices.DeleteFunc(k.epochs, func(e *heldEpoch) bool {
		if e.until == 0 || m.now.Unix() < e.until || m.sealedUnder(e.Number) {
			return false
		}
		e.Key.Zero()
		return true
	})
	if len(k.epochs) != n {
		k.turns++
		m.meta.WelcomeOf, m.governed = 0, false // the own welcome still has it
		m.saveEpochs()
	}
}

func (m *Machine) sealedUnder(number uint64) bool {
	for _, b := range m.bundles {
		if b.epoch == number {
			return true
		}
	}
	return false
}

// nextEpochErase is when the next key goes; zero: none does.
func (m *Machine) nextEpochErase() (t time.Time) {
	if m.keyring == nil {
		return t
	}
	for _, e := range m.keyring.epochs {
		if at := time.Unix(e.until, 0); e.until != 0 && !m.sealedUnder(e.Number) && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}
