package simnet

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// A group that is laid down: its members stand on every board as if they had
// joined, and any two of them have a confirmed session, without the half million
// joins' worth of work that this takes. The founder and one member, the witness,
// are machines from the beginning; what the witness keeps of the group is what
// every other would keep, so a member's disk is the witness' with own keys and
// own sessions. Disks are made when a member wakes: all of them could.
type laid struct {
	s       *Scenario
	founder *Node
	witness *Node
	seats   []*laidSeat // of the founder, the witness, and those laid down
	awake   []*Node     // that were woken
	disk    *memory.Store
	unit    store.Unit
	meta    map[string]json.RawMessage // of the witness
}

// laidSeat is what one member keeps to itself.
type laidSeat struct {
	name        string
	incarnation wire.Incarnation
	seat        wire.Seat
	meta        []byte   // JSON
	boxes       [][]byte // seeds of its mailboxes, relay by relay
	prekeys     []byte   // record of version 1
	ratchet     *ecdh.PrivateKey
}

// Kinds of records that a member does not share with the witness
// (docs/architecture.md, "What a member keeps").
const (
	recordMeta     = 'm'
	recordPrekeys  = 'o'
	recordReceipts = 't'
	recordSessions = 's'
	recordVector   = 'v'
)

// layDown founds a group on the relays there are and lays n members down: the
// founder, the witness and n-2 others, asleep.
func layDown(s *Scenario, n int, founding member.CreateGroup) (*laid, error) {
	waits := s.Member
	waits.Limits.HelloWait = 1000 * time.Hour // for hellos of those who sleep
	l := &laid{s: s, founder: s.addMember("founder", member.Open(waits))}
	if err := s.Found(l.founder, founding); err != nil {
		return nil, err
	}
	v, err := s.Do(l.founder, member.MakeInvite{Uses: uint32(n + 100)}) // all come by it
	if err != nil {
		return nil, err
	}
	s.Link = v.(member.InviteInfo).Link
	l.founder.Stop()
	group, err := l.metaOf(l.founder)
	if err != nil {
		return nil, err
	}
	inv, err := member.ParseLink(s.Link)
	if err != nil {
		return nil, err
	}
	var epochs []struct{ Key []byte }
	if err := json.Unmarshal(group["Epochs"], &epochs); err != nil {
		return nil, err
	}
	epoch := keys.NewSecret[keys.RoleEpoch]([32]byte(epochs[0].Key))
	feed := map[keys.RelayPublic][]proto.Message{}
	var others []*laidSeat
	for i := range n - 2 {
		o, err := l.draw(fmt.Sprintf("m%03d", i+2), inv, &epoch, group, feed)
		if err != nil {
			return nil, err
		}
		others = append(others, o)
	}
	if err := l.feed(inv, feed); err != nil {
		return nil, err
	}

	l.founder.Start()
	if err := s.Run(time.Duration(10+n/member.MaxAdopted) * time.Minute); err != nil { // it adopts all of them
		return nil, err
	}
	l.witness = s.addMember("witness", jobless(member.Open(s.Member)))
	s.Wish(l.witness, member.JoinGroup{Link: s.Link, Name: "witness"})
	if err := s.Run(10 * time.Minute); err != nil {
		return nil, err
	}
	for _, m := range []*Node{l.founder, l.witness} {
		v, err := s.Do(m, member.GetStatus{})
		if err != nil {
			return nil, err
		}
		if st := v.(member.Status); !st.Ready || len(st.Members) != n {
			return nil, fmt.Errorf("%s knows %d members of %d", m.name, len(st.Members), n)
		}
		m.Stop()
		m.open = member.Open(s.Member)
		o, err := l.known(m)
		if err != nil {
			return nil, err
		}
		l.seats = append(l.seats, o)
	}
	l.seats = append(l.seats, others...)
	l.disk, l.unit = l.witness.disk, l.witness.unit
	if l.meta, err = l.metaOf(l.witness); err != nil {
		return nil, err
	}
	for i, o := range l.seats {
		if err := l.complete(i, o); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// jobless opens machines whose jobs nobody does: they read, and begin no session.
func jobless(open broadcast.Open) broadcast.Open {
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		m, err := open(u, r, e)
		return idler{m}, err
	}
}

type idler struct{ broadcast.Machine }

func (i idler) Ready() broadcast.Ready {
	r := i.Machine.Ready()
	r.Jobs = nil
	return r
}

func (l *laid) metaOf(n *Node) (m map[string]json.RawMessage, err error) {
	raw, err := n.disk.Get(append(n.unit[:len(n.unit):len(n.unit)], recordMeta))
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	return m, err
}

// draw makes a member and what it would have written to the boards.
func (l *laid) draw(name string, inv *member.Invitation, epoch *keys.EpochKey, group map[string]json.RawMessage, feed map[keys.RelayPublic][]proto.Message) (*laidSeat, error) {
	s := l.s
	secret := func(what string) []byte { b := s.Seed("laid", name, what); return b[:] }
	signing := keys.NewPrivate[keys.RoleMember]([32]byte(secret("signing")))
	identity := keys.NewDHPrivate[keys.RoleIdentity]([32]byte(secret("identity")))
	prekey := keys.NewDHPrivate[keys.RolePrekey]([32]byte(secret("prekey")))
	kemSeed := append(secret("kem"), secret("kem again")...)
	kem, err := mlkem.NewDecapsulationKey768(kemSeed)
	if err != nil {
		return nil, err
	}
	o := &laidSeat{name: name, seat: member.NewSeat(inv.Group, signing.Public()), incarnation: wire.Incarnation(secret("incarnation")[:8])}
	now := s.cfg.Start.Add(s.now)
	a := &member.Announcement{
		Suite: member.Suite1, Group: inv.Group, Seat: o.seat, Version: 1, Signing: signing.Public(), Identity: identity.Public(),
		Incarnation: o.incarnation, PrekeyID: 1, Prekey: prekey.Public(), KEMID: 1, KEM: [member.KEMKeySize]byte(kem.EncapsulationKey().Bytes()),
		Expires: now.Add(28 * 24 * time.Hour).Truncate(time.Second), Name: name,
	}
	for _, r := range s.Relays {
		box := keys.NewPrivate[keys.RoleMailbox]([32]byte(secret("mailbox " + r.name)))
		seed := box.Seed()
		o.boxes = append(o.boxes, seed[:])
		at := r.Key.Public()
		a.Mailboxes = append(a.Mailboxes, member.Mailbox{Relay: at, ID: member.NewMailboxID(at, inv.Channel(at), box.Public())})
		capability := member.PostingKey(epoch, at)
		reg := proto.Register{Mailbox: box.Public(), Capability: capability.Public()}
		reg.Sign(capability, at, inv.Channel(at))
		feed[at] = append(feed[at], reg)
	}
	a.Sign(signing)
	invite := inv.InviteKey()
	adm := &member.Admission{Group: inv.Group, Invite: member.InviteID(invite.Public()), Seat: o.seat, Announcement: a.Digest()}
	adm.Sign(invite)
	announced, admitted, owner := a.Append(nil), adm.Append(nil), [32]byte(secret("owner"))
	for _, r := range s.Relays {
		at := r.Key.Public()
		for _, e := range []struct {
			name  string
			value []byte
		}{{"announcement/", announced}, {"admission/", admitted}} {
			entry := e.name + o.seat.String()
			put := proto.BoardPut{PostID: wire.PostID(secret("post " + r.name + entry)[:16]), Version: 1}
			put.Name, put.Value = broadcast.NewBoardKeys(epoch.Expose(), at).Seal(entry, 1, e.value)
			put.SignOwner(member.OwnerKey(owner, at, entry), at, inv.Channel(at))
			capability := member.PostingKey(epoch, at)
			put.Capability = capability.Public()
			put.Sign(capability, at, inv.Channel(at))
			feed[at] = append(feed[at], put)
		}
	}
	digest := a.Digest()
	o.prekeys = wire.AppendU64(wire.AppendU64(digest[:], uint64(now.Unix())), 0)
	o.prekeys = append(append(o.prekeys, secret("prekey")...), kemSeed...)
	seed := identity.Seed()
	sign := signing.Seed()
	o.meta, err = json.Marshal(map[string]any{
		"Name": name, "Signing": sign[:], "Identity": seed[:], "Owner": owner[:], "Incarnation": o.incarnation[:],
		"Announced": announced, "Admitted": admitted,
	})
	return o, err
}

// known is the seat of a member that is a machine.
func (l *laid) known(n *Node) (*laidSeat, error) {
	o := &laidSeat{name: n.name}
	raw, err := n.disk.Get(append(n.unit[:len(n.unit):len(n.unit)], recordMeta))
	if err != nil {
		return nil, err
	}
	o.meta = raw
	var own struct{ Announced []byte }
	if err := json.Unmarshal(raw, &own); err != nil {
		return nil, err
	}
	a, err := member.ParseAnnouncement(own.Announced)
	if err != nil {
		return nil, err
	}
	o.seat, o.incarnation = a.Seat, a.Incarnation
	o.prekeys, err = n.disk.Get(append(append(n.unit[:len(n.unit):len(n.unit)], recordPrekeys), wire.U64(1)...))
	return o, err
}

// complete puts what the witness knows of the group under a member's own keys.
func (l *laid) complete(i int, o *laidSeat) error {
	seed := l.s.Seed("laid", o.name, "ratchet")
	var err error
	if o.ratchet, err = ecdh.X25519().NewPrivateKey(seed[:]); err != nil || i < 2 {
		return err // two have disks of their own
	}
	all := map[string]json.RawMessage{}
	for k, v := range l.meta {
		all[k] = v
	}
	var own map[string]json.RawMessage
	if err := json.Unmarshal(o.meta, &own); err != nil {
		return err
	}
	for k, v := range own {
		if _, ok := all[k]; !ok {
			return fmt.Errorf("a membership has no %q any more", k)
		}
		all[k] = v
	}
	var paths []map[string]json.RawMessage
	if err := json.Unmarshal(all["Relays"], &paths); err != nil {
		return err
	}
	if len(paths) != len(o.boxes) {
		return fmt.Errorf("the witness has %d paths, there are %d relays", len(paths), len(o.boxes))
	}
	for i, box := range o.boxes {
		if _, ok := paths[i]["Mailbox"]; !ok {
			return errors.New("a path has no mailbox any more")
		}
		if paths[i]["Mailbox"], err = json.Marshal(box); err != nil {
			return err
		}
	}
	if all["Relays"], err = json.Marshal(paths); err != nil {
		return err
	}
	o.meta, err = json.Marshal(all)
	return err
}

// node is the process of the i-th member.
func (l *laid) node(i int) *Node {
	if n := l.s.Node(l.seats[i].name); n != nil {
		return n
	}
	return l.s.AddMember(l.seats[i].name)
}

// wake gives a process the disk of the i-th member and starts it.
func (l *laid) wake(n *Node, i int) {
	l.awake = append(l.awake, n)
	o := l.seats[i]
	n.Stop()
	d, unit := l.disk.Snapshot(), l.unit
	if i < 2 {
		d, unit = n.disk.Snapshot(), n.unit
	}
	key := func(kind byte, parts ...[]byte) []byte {
		k := append(unit[:len(unit):len(unit)], kind)
		for _, p := range parts {
			k = append(k, p...)
		}
		return k
	}
	base, err := d.Revision(unit)
	b := store.Batch{Unit: unit, Base: base}
	put := func(k, v []byte) { b.Ops = append(b.Ops, store.Op{Key: k, Value: v}) }
	drop := []byte{recordSessions}
	if i >= 2 {
		drop = append(drop, recordReceipts)
	}
	for _, kind := range drop {
		kvs, more, e := d.Scan(key(kind), key(kind+1), 1<<30)
		if err = errors.Join(err, e); more {
			panic("simnet: a scan without a limit has one")
		}
		for _, kv := range kvs {
			put(kv.Key, nil)
		}
	}
	if i >= 2 {
		put(key(recordMeta), o.meta)
		put(key(recordPrekeys, wire.U64(1)), o.prekeys)
	}
	var vector []byte
	for j, p := range l.seats {
		if j != i {
			record, chain := l.session(i, j)
			r := wire.AppendU32([]byte{1}, uint32(len(vector)/40)) // its place in the vector
			r = wire.AppendBool(r, false)
			r = append(r, p.incarnation[:]...)
			r = wire.AppendU64(wire.AppendU32(r, 0), 0) // nothing encapsulated
			r = append(r, 0)                            // no answer goes everywhere
			put(key(recordSessions, p.seat[:]), wire.AppendBytes(r, record))
			vector = chain.Append(vector)
		}
	}
	put(key(recordVector), vector)
	if err = errors.Join(err, d.Apply([]store.Batch{b})[0]); err != nil {
		panic("simnet: a disk cannot be laid down: " + err.Error())
	}
	n.disk, n.unit = d, unit
	l.s.seats[o.seat.Short()] = o.name
	n.Start()
}

// session is the i-th member's end of its session with the j-th: what both have
// once the hello, its answer and a slot under the initiator's next key have
// opened (docs/protocol.md section 5.1; the record's layout is in package
// ratchet). Only the responder's newest chain needs a DH: everything before is
// drawn from one secret.
func (l *laid) session(i, j int) (record []byte, chain ratchet.SendChain) {
	first, second := l.seats[min(i, j)], l.seats[max(i, j)]
	drawn := stream(l.s.cfg.Seed, "laid session", first.name, second.name)
	draw := func() (b [32]byte) { drawn.Read(b[:]); return b }
	transcript, header, root, old, oldChain, current := draw(), draw(), draw(), draw(), draw(), draw()
	dh, err := first.ratchet.ECDH(second.ratchet.PublicKey())
	if err != nil {
		panic(err)
	}
	prk, err := hkdf.Extract(sha256.New, dh, root[:])
	if err != nil {
		panic(err)
	}
	next, err := hkdf.Expand(sha256.New, prk, "parallax/1/root", 64)
	if err != nil {
		panic(err)
	}
	const mixed = 2
	own, peer := l.seats[i], l.seats[j]
	b := append(make([]byte, 0, 336), mixed, map[bool]byte{true: 1}[i < j])
	b = append(b, transcript[:]...)
	b = append(b, own.seat[:]...)
	b = append(b, peer.seat[:]...)
	b = append(b, header[:]...)
	if i < j {
		b = append(b, root[:]...)
	} else {
		b = append(b, next[:32]...)
	}
	b = append(b, own.ratchet.Bytes()...)
	b = append(b, own.ratchet.PublicKey().Bytes()...)
	if i < j { // it has not seen the responder's newest key
		b = append(b, old[:]...)
	} else {
		b = append(b, peer.ratchet.PublicKey().Bytes()...)
	}
	b = wire.AppendU32(wire.AppendU32(b, 2), 1)
	if i < j {
		b = append(b, oldChain[:]...)
		chain = ratchet.SendChain{Generation: 2, N: 1, Key: current}
	} else {
		b = append(b, current[:]...)
		chain = ratchet.SendChain{Generation: 2, Key: [32]byte(next[32:])}
	}
	return wire.AppendU16(wire.AppendU32(b, 1), 0), chain
}

// feed lets a process of nobody's write to the boards.
func (l *laid) feed(inv *member.Invitation, list map[keys.RelayPublic][]proto.Message) error {
	f := &feeder{list: list, inv: inv, at: map[broadcast.Link]keys.RelayPublic{}}
	for r := range list {
		f.waiting += len(list[r])
	}
	n := l.s.World.AddMember("feeder", func(store.Unit, store.Reader, broadcast.Entropy) (broadcast.Machine, error) { return f, nil }, store.Unit{'f'})
	defer n.Stop()
	done, err := l.s.RunUntil(time.Hour, func() bool { return f.waiting == 0 || f.err != nil })
	if !done && err == nil {
		err = fmt.Errorf("%d board writes have no answer", f.waiting)
	}
	return errors.Join(err, f.err)
}

// feeder is a machine that sends a list of requests to each relay.
type feeder struct {
	list    map[keys.RelayPublic][]proto.Message
	inv     *member.Invitation
	at      map[broadcast.Link]keys.RelayPublic
	out     []broadcast.Send
	wanted  bool
	waiting int
	err     error
}

func (f *feeder) Step(_ time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Up:
		f.at[in.Link] = in.Relay
		f.say(in.Link, proto.Hello{Min: proto.Version, Max: proto.Version, Channel: f.inv.Channel(in.Relay)})
	case broadcast.Down:
		f.err = fmt.Errorf("the feeder lost a link: %s", in.Why)
	case broadcast.Received:
		switch in.Frame.Type {
		case proto.TypeWelcome:
			for range 64 {
				f.next(in.Link)
			}
		case proto.TypeRegistered, proto.TypeReceipt:
			f.waiting--
			f.next(in.Link)
		case proto.TypeRefused:
			m, _ := proto.Parse(in.Frame)
			f.err = fmt.Errorf("a relay refused: %+v", m)
		}
	}
	return nil
}

func (f *feeder) next(link broadcast.Link) {
	if list := f.list[f.at[link]]; len(list) > 0 {
		f.say(link, list[0])
		f.list[f.at[link]] = list[1:]
	}
}

func (f *feeder) say(l broadcast.Link, m proto.Message) {
	f.out = append(f.out, broadcast.Send{Link: l, Frame: proto.Encode(m)})
}

func (*feeder) Tick(time.Time) {}

func (f *feeder) Ready() broadcast.Ready {
	r := broadcast.Ready{Now: f.out}
	f.out = nil
	if !f.wanted {
		f.wanted = true
		for _, relay := range f.inv.Relays {
			r.Links = append(r.Links, broadcast.WantLink{Relay: relay.Key, Use: broadcast.PostLink})
		}
	}
	return r
}
