package member

import (
	"cmp"
	"crypto/mlkem"
	"fmt"
	"slices"
	"time"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// The own prekeys and the announcements they stand in (docs/protocol.md section
// 5.4): each version of the announcement has prekeys of its own, newer ones
// follow every Limits.PrekeyLife, and what a newer one replaced is kept for the
// group's retention time, so that hellos under way still open, then erased.

// ownPrekeys are those of one version of the own announcement.
type ownPrekeys struct {
	ratchet.PrekeysPrivate
	version uint64
	digest  wire.Digest // of the announcement
	made    int64       // Unix seconds
	until   int64       // Unix seconds when they are erased; 0: they are the newest
	kem     [64]byte    // the seed of KEM
}

// drawPrekeys makes prekeys for the next version of the announcement.
func (m *Machine) drawPrekeys(version uint64) *ownPrekeys {
	o := &ownPrekeys{version: version, made: m.now.Unix()}
	prekey := m.draw32()
	m.draw(o.kem[:])
	o.set(prekey)
	return o
}

// set builds the keys. The ids are those of the version: no two versions of one
// seat have the same, so an id names keys and announcement.
func (o *ownPrekeys) set(prekey [32]byte) {
	kem, err := mlkem.NewDecapsulationKey768(o.kem[:])
	if err != nil {
		panic("member: ML-KEM takes any 64 bytes: " + err.Error())
	}
	id := prekeyID(o.version)
	o.PrekeysPrivate = ratchet.PrekeysPrivate{ID: id, Key: keys.NewDHPrivate[keys.RolePrekey](prekey), KEMID: id, KEM: kem}
}

func prekeyID(version uint64) uint32 { return uint32(version) }

// newest are the prekeys that stand in the current announcement.
func (k *keyring) newest() *ownPrekeys { return k.prekeys[len(k.prekeys)-1] }

// held finds the prekeys that a hello names, nil if they are not held (any more).
func (k *keyring) held(prekey, kem uint32) *ownPrekeys {
	for _, o := range k.prekeys {
		if o.ID == prekey && o.KEMID == kem {
			return o
		}
	}
	return nil
}

// savePrekeys writes: digest 32 | made u64 | until u64 | prekey 32 | ML-KEM seed 64.
func (m *Machine) savePrekeys(o *ownPrekeys) {
	b := append([]byte(nil), o.digest[:]...)
	b = wire.AppendU64(b, uint64(o.made))
	b = wire.AppendU64(b, uint64(o.until))
	prekey := o.Key.Seed()
	b = append(append(b, prekey[:]...), o.kem[:]...)
	m.put(m.key(keyPrekeys, wire.U64(o.version)), b)
}

func (m *Machine) loadPrekeys(key, value []byte) error {
	kr, r := wire.NewReader(key), wire.NewReader(value)
	o := &ownPrekeys{version: kr.U64()}
	if err := kr.Done(); err != nil {
		return err
	}
	var prekey [32]byte
	r.Fixed(o.digest[:])
	o.made, o.until = int64(r.U64()), int64(r.U64())
	r.Fixed(prekey[:])
	r.Fixed(o.kem[:])
	if err := r.Done(); err != nil {
		return err
	}
	o.set(prekey)
	m.keyring.prekeys = append(m.keyring.prekeys, o) // in the order of versions
	return nil
}

// announce makes the next version of the own announcement, after that with
// version and digest: zeros before the first. It is signed by the seat's key,
// which stays what it was.
func (m *Machine) announce(version uint64, previous wire.Digest) {
	k, meta := m.keyring, m.meta
	version++
	o := m.drawPrekeys(version)
	a := &Announcement{
		Suite: Suite1, Group: m.gid, Version: version, Previous: previous, Signing: k.signing.Public(), Identity: k.identity.Public(),
		Incarnation: k.inc, PrekeyID: o.ID, Prekey: o.Key.Public(), KEMID: o.KEMID,
		Expires: unixTime(m.now.Add(m.offered())), Name: meta.Name,
	}
	a.Seat = NewSeat(m.gid, a.Signing)
	copy(a.KEM[:], o.KEM.EncapsulationKey().Bytes())
	for _, p := range m.paths {
		if p.listedRelay() {
			a.Mailboxes = append(a.Mailboxes, Mailbox{Relay: p.ref.Key, ID: p.mailbox, Admin: ChannelAdmin(k.owner, p.ref.Key).Public()})
		}
	}
	a.Sign(k.signing)
	k.ann = a
	m.self = a.Seat
	meta.Announced = a.Append(nil)
	o.digest = a.Digest()
	for _, old := range k.prekeys {
		if old.until == 0 {
			old.until = m.now.Add(m.retention()).Unix()
			m.savePrekeys(old)
		}
	}
	k.prekeys = append(k.prekeys, o)
	m.savePrekeys(o)
}

// offered is how long others may begin with prekeys: their own time and, for a
// member that is away, the retention time.
func (m *Machine) offered() time.Duration { return m.cfg.Limits.PrekeyLife + m.retention() }

// retention is the group's; before the genesis is known the default.
func (m *Machine) retention() time.Duration {
	if m.genesis == nil {
		return DefaultRetention
	}
	return m.rules().Retention
}

// expired: nobody begins with these prekeys any more. Their seat has been away
// for long; it announces new ones when it is back.
func (m *Machine) expired(st *seatState) bool { return !m.now.Before(st.ann.Expires) }

// rotateAt is when the own prekeys are to be replaced; zero: not by time. A member
// that was away reads first whether another installation announced the seat, so
// that no two sign one version.
func (m *Machine) rotateAt() (t time.Time) {
	if !m.speaks() || m.starting.unsure || len(m.keyring.prekeys) == 0 || !m.reading() && !m.readsNext() {
		return t
	}
	t = time.Unix(m.keyring.newest().made, 0).Add(m.cfg.Limits.PrekeyLife)
	if m.unannounced() && m.announceAt.Before(t) {
		if t = m.announceAt; t.IsZero() {
			t = m.now
		}
	}
	return t
}

// rotate replaces the prekeys that are old and erases those that no hello under
// way can name any more.
func (m *Machine) rotate() {
	if at := m.rotateAt(); !at.IsZero() && !m.now.Before(at) {
		m.announce(m.keyring.ann.Version, m.keyring.ann.Digest())
		m.announced()
	}
	if m.keyring == nil {
		return
	}
	m.keyring.prekeys = slices.DeleteFunc(m.keyring.prekeys, func(o *ownPrekeys) bool {
		if o.until == 0 || m.now.Unix() < o.until {
			return false
		}
		m.erasePrekeys(o)
		return true
	})
}

// announced takes the own new announcement into the own seat, stores it, and
// puts it on every board.
func (m *Machine) announced() {
	k, st := m.keyring, m.seats[m.self]
	st.ann, st.digest = k.ann, k.ann.Digest()
	m.current = nil
	m.saveMeta()
	m.saveSeat(st)
	m.sealAgain()
	for _, p := range m.paths {
		if p.takesPosts() {
			m.putEntry(p, epochKey, "announcement/"+m.self.String(), k.ann.Version, m.meta.Announced, k.owner)
		}
	}
}

// erasePrekeys forgets the keys of one version, and the transcripts of hellos
// that were made from them: without the keys those cannot be replayed.
func (m *Machine) erasePrekeys(o *ownPrekeys) {
	m.del(m.key(keyPrekeys, wire.U64(o.version)))
	for t, h := range m.seen {
		if h.version == o.version {
			delete(m.seen, t)
			m.seatOf(h.seat).hellos--
			m.del(m.key(keyHello, t[:]))
		}
	}
	o.Key.Zero()
	clear(o.kem[:])
	o.KEM = nil
}

// nextErase is when the next prekeys are to be erased.
func (m *Machine) nextErase() (t time.Time) {
	if m.keyring == nil {
		return t
	}
	for _, o := range m.keyring.prekeys {
		if at := time.Unix(o.until, 0); o.until != 0 && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}

// formerAnnouncement is what is kept of a valid announcement beside the newest: an
// earlier version, or another one of the newest (successors.go). A hello may have
// been made from it, whose transcript has its digest and identity key; a later
// version may be signed by its key.
type formerAnnouncement struct {
	version     uint64
	digest      wire.Digest
	signing     keys.SigningPublic
	identity    keys.IdentityPublic
	incarnation wire.Incarnation
	until       int64 // Unix seconds when it is forgotten
}

// peerParty is a seat as one of its announcements has it.
type peerParty struct {
	ratchet.Party
	incarnation wire.Incarnation
}

// maxFormer bounds the earlier announcements remembered of one seat: those of
// the retention time at one a week, and a few more.
const maxFormer = 6

// supersede remembers a seat's announcement before a newer one takes its place.
func (m *Machine) supersede(st *seatState) {
	if st.ann == nil {
		return
	}
	now := m.now.Unix()
	st.former = slices.DeleteFunc(st.former, func(f formerAnnouncement) bool { return now >= f.until })
	m.keepFormer(st, st.ann, st.digest)
	m.ledger.Forget(crossverify.Announcement(st.seat, st.ann.Version))
}

// keepFormer keeps what is needed of an announcement that is not the newest, the
// oldest version first; the newest maxFormer stay, in whatever order they came.
func (m *Machine) keepFormer(st *seatState, a *Announcement, d wire.Digest) {
	f := formerAnnouncement{a.Version, d, a.Signing, a.Identity, a.Incarnation, m.now.Add(m.retention()).Unix()}
	at, had := slices.BinarySearchFunc(st.former, f, func(x, y formerAnnouncement) int {
		return cmp.Or(cmp.Compare(x.version, y.version), compareDigests(x.digest, y.digest))
	})
	if had {
		return
	}
	st.former = slices.Insert(st.former, at, f)
	if len(st.former) > maxFormer {
		st.former = slices.Delete(st.former, 0, len(st.former)-maxFormer)
	}
}

// formerly remembers an announcement that another path showed first, or a newer
// one: a hello of the seat may have been made from it.
func (m *Machine) formerly(st *seatState, a *Announcement, d wire.Digest) {
	if st.own {
		return
	}
	m.keepFormer(st, a, d)
	m.saveSeat(st)
	if m.usable(st) && m.holds(st.seat) {
		m.retryHeld(st.seat)
	}
}

// peers are the announcements of a seat that a hello of it may have been made
// from, newest first.
func (m *Machine) peers(st *seatState) []peerParty {
	list := []peerParty{{ratchet.Party{Seat: st.seat, Announcement: st.digest, Identity: st.ann.Identity}, st.ann.Incarnation}}
	for _, f := range slices.Backward(st.former) {
		if m.now.Unix() < f.until {
			list = append(list, peerParty{ratchet.Party{Seat: st.seat, Announcement: f.digest, Identity: f.identity}, f.incarnation})
		}
	}
	return list
}

func appendFormer(b []byte, list []formerAnnouncement) []byte {
	b = append(b, byte(len(list)))
	for _, f := range list {
		b = append(append(wire.AppendU64(b, f.version), f.digest[:]...), f.signing[:]...)
		b = append(append(b, f.identity[:]...), f.incarnation[:]...)
		b = wire.AppendU64(b, uint64(f.until))
	}
	return b
}

func readFormer(r *wire.Reader) (list []formerAnnouncement) {
	n := int(r.U8())
	if n > maxFormer {
		r.Fail(fmt.Errorf("%d earlier announcements: %w", n, wire.ErrTooLong))
	}
	for range min(n, maxFormer) {
		var f formerAnnouncement
		f.version = r.U64()
		r.Fixed(f.digest[:])
		r.Fixed(f.signing[:])
		r.Fixed(f.identity[:])
		r.Fixed(f.incarnation[:])
		f.until = int64(r.U64())
		list = append(list, f)
	}
	return list
}
