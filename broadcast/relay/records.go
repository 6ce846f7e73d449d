package relay

import (
	"errors"
	"fmt"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// Errors of what lies in the store.
var (
	// ErrCorrupt: a record is not as this package writes it.
	ErrCorrupt = errors.New("relay: damaged record")
	// ErrFormat: the channel was written by another version.
	ErrFormat = errors.New("relay: the channel is in another format")
	// ErrForeign: the unit belongs to another relay key.
	ErrForeign = errors.New("relay: the channel belongs to another relay key")
)

// formatVersion is the format of a channel's records, first in meta.
const formatVersion = 3

// Letters after the unit; the layouts are in the package comment.
const (
	keyMeta     = 'm'
	keyLog      = 'l'
	keySpine    = 's'
	keyPost     = 'i'
	keyBoard    = 'b'
	keyValue    = 'v'
	keyFanout   = 'f'
	keyFanUse   = 'u'
	keyMailbox  = 'x'
	keyHint     = 'p'
	keyGrant    = 'g'
	keyRestored = 'r'
)

const tagUnit = "parallax/1/relay/unit"

// Unit is where a channel lies in the store: the first 16 bytes of
// H("relay/unit", channel).
func Unit(channel wire.ChannelID) (u store.Unit) {
	d := wire.Hash(tagUnit, channel[:])
	copy(u[:], d[:])
	return u
}

// Restored is the batch with which a restore from a backup marks a unit at
// revision base: its channel, if it has one, starts a new lineage before it
// signs again.
func Restored(u store.Unit, base uint64) store.Batch {
	return store.Batch{Unit: u, Base: base, Ops: []store.Op{{Key: key(u, keyRestored), Value: []byte{formatVersion}}}}
}

func key(u store.Unit, letter byte, parts ...[]byte) []byte {
	k := append(make([]byte, 0, len(u)+1+32+8), u[:]...)
	k = append(k, letter)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

// keyEnd ends the range of a letter; letters are below 0xff.
func keyEnd(u store.Unit, letter byte) []byte { return key(u, letter+1) }

func logKey(u store.Unit, letter byte, l wire.Lineage, n uint64) []byte {
	return wire.AppendU64(key(u, letter, l[:]), n)
}

// logEnd comes after every number of a lineage: numbers never reach the last.
func logEnd(u store.Unit, letter byte, l wire.Lineage) []byte {
	return logKey(u, letter, l, ^uint64(0))
}

func corrupt(what string, err error) error { return fmt.Errorf("%w: %s %w", ErrCorrupt, what, err) }

func readStatement(r *wire.Reader) crossverify.Statement {
	b := r.Raw(crossverify.StatementSize)
	if b == nil {
		return crossverify.Statement{}
	}
	s, err := crossverify.ParseStatement(b)
	if err != nil {
		r.Fail(err)
	}
	return s
}

// meta is the channel's one record of fixed size.
type meta struct {
	relay      keys.RelayPublic
	channel    wire.ChannelID
	posting    keys.PostingPublic
	admins     []proto.Admin         // replaced as a whole, never changed
	creation   crossverify.Statement // entry 1 of the lineage
	head       crossverify.Statement // newest entry; its lineage is the channel's
	first      uint64                // first number kept; head.N+1: none
	before     wire.Digest           // chain head at first-1
	firstTime  uint64                // Unix seconds of entry first; 0: none
	kept       uint64                // bytes of the entries kept
	boardRev   uint64                // board writes so far
	mailboxRev uint64                // registrations and removals so far
	rotation   uint64                // ordinal of the keys in force; 0: the creation's
	rotated    wire.Digest           // d of the Rotate that brought them; zero: none
}

func (m *meta) lineage() wire.Lineage { return m.head.Lineage }

func (m *meta) encode() []byte {
	b := append(make([]byte, 0, 900), formatVersion)
	b = append(b, m.relay[:]...)
	b = append(b, m.channel[:]...)
	b = append(b, m.posting[:]...)
	b = proto.AppendAdmins(b, m.admins)
	b = m.creation.Append(b)
	b = m.head.Append(b)
	b = wire.AppendU64(b, m.first)
	b = append(b, m.before[:]...)
	b = wire.AppendU64(b, m.firstTime)
	b = wire.AppendU64(b, m.kept)
	b = wire.AppendU64(b, m.boardRev)
	b = wire.AppendU64(b, m.mailboxRev)
	b = wire.AppendU64(b, m.rotation)
	return append(b, m.rotated[:]...)
}

func parseMeta(b []byte) (m meta, err error) {
	r := wire.NewReader(b)
	format := r.U8()
	if r.Err() == nil && format != formatVersion {
		return meta{}, fmt.Errorf("%w: format %d, this version reads %d", ErrFormat, format, formatVersion)
	}
	r.Fixed(m.relay[:])
	r.Fixed(m.channel[:])
	r.Fixed(m.posting[:])
	m.admins = proto.ReadAdmins(r)
	m.creation = readStatement(r)
	m.head = readStatement(r)
	m.first = r.U64()
	r.Fixed(m.before[:])
	m.firstTime = r.U64()
	m.kept = r.U64()
	m.boardRev = r.U64()
	m.mailboxRev = r.U64()
	m.rotation = r.U64()
	r.Fixed(m.rotated[:])
	if r.Err() == nil && ((m.rotation == 0) != (m.rotated == wire.Digest{}) || m.creation.Lineage != m.head.Lineage || m.head.N == 0 || m.first == 0 || m.first > m.head.N+1) {
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return meta{}, corrupt("meta", err)
	}
	return m, nil
}

type kind uint8

const (
	kindBundle kind = 1
	kindBoard  kind = 2
	kindGrant  kind = 3
	kindDigest kind = 4
)

// entry is one number of the log. What kind does not name is zero.
type entry struct {
	kind kind
	time uint64 // Unix seconds
	st   crossverify.Statement

	// kindBundle; of kindDigest hint and nonce, and the seal in envelope
	hint       [broadcast.HintSize]byte
	nonce      [broadcast.MaskNonceSize]byte
	fanout     wire.Digest
	slots      wire.Digest // slots digest
	exceptions broadcast.Exceptions
	envelope   []byte
	block      []byte           // slots
	list       []wire.MailboxID // nil while it was not looked up

	// kindBoard
	name    wire.Digest
	version uint64
	value   []byte
}

func (e *entry) encode() []byte {
	b := make([]byte, 0, 1+8+crossverify.StatementSize+8+24+64+14+3*len(e.exceptions)+len(e.envelope)+len(e.block)+44+len(e.value))
	b = append(b, byte(e.kind))
	b = wire.AppendU64(b, e.time)
	b = e.st.Append(b)
	switch e.kind {
	case kindBundle:
		b = append(b, e.hint[:]...)
		b = append(b, e.nonce[:]...)
		b = append(b, e.fanout[:]...)
		b = append(b, e.slots[:]...)
		b = wire.AppendBytes(b, e.exceptions.Append(nil))
		b = wire.AppendBytes(b, e.envelope)
		b = wire.AppendBytes(b, e.block)
	case kindDigest:
		b = append(b, e.hint[:]...)
		b = append(b, e.nonce[:]...)
		b = append(b, e.envelope...)
	case kindBoard:
		b = append(b, e.name[:]...)
		b = wire.AppendU64(b, e.version)
		b = wire.AppendBytes(b, e.value)
	}
	return b
}

// parseEntry reads one log record; the entry aliases b.
func parseEntry(b []byte) (*entry, error) {
	r := wire.NewReader(b)
	e := &entry{kind: kind(r.U8()), time: r.U64(), st: readStatement(r)}
	switch e.kind {
	case kindBundle:
		r.Fixed(e.hint[:])
		r.Fixed(e.nonce[:])
		r.Fixed(e.fanout[:])
		r.Fixed(e.slots[:])
		exceptions := r.Bytes(broadcast.MaxExceptions)
		e.envelope = r.Bytes(r.Len())
		e.block = r.Bytes(r.Len())
		if r.Err() == nil {
			var err error
			if e.exceptions, err = broadcast.ParseExceptions(exceptions); err != nil {
				r.Fail(err)
			}
		}
	case kindDigest:
		r.Fixed(e.hint[:])
		r.Fixed(e.nonce[:])
		e.envelope = r.Raw(broadcast.SealedDigestSize)
	case kindBoard:
		r.Fixed(e.name[:])
		e.version = r.U64()
		e.value = r.Bytes(r.Len())
	case kindGrant:
	default:
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return nil, corrupt("log entry", err)
	}
	return e, nil
}

// size is what the entry counts for in the tail and in a push.
func (e *entry) size() int { return 400 + len(e.envelope) + len(e.block) + len(e.value) }

// spine is what trimming needs of an entry, without its bytes.
type spine struct {
	time  uint64
	bytes uint64
	post  wire.PostID // zero: none
	h     wire.Digest
}

func (s *spine) encode() []byte {
	b := wire.AppendU64(make([]byte, 0, 64), s.time)
	b = wire.AppendU64(b, s.bytes)
	b = append(b, s.post[:]...)
	return append(b, s.h[:]...)
}

func parseSpine(b []byte) (s spine, err error) {
	r := wire.NewReader(b)
	s.time, s.bytes = r.U64(), r.U64()
	r.Fixed(s.post[:])
	r.Fixed(s.h[:])
	if err := r.Done(); err != nil {
		return spine{}, corrupt("spine", err)
	}
	return s, nil
}

// boardEntry is the newest version of one name, without its value.
type boardEntry struct {
	version uint64
	value   wire.Digest
	owner   keys.OwnerPublic
	bytes   uint64
	st      crossverify.Statement
}

func (e *boardEntry) encode() []byte {
	b := wire.AppendU64(make([]byte, 0, 80+crossverify.StatementSize), e.version)
	b = append(b, e.value[:]...)
	b = append(b, e.owner[:]...)
	b = wire.AppendU64(b, e.bytes)
	return e.st.Append(b)
}

func parseBoardEntry(b []byte) (*boardEntry, error) {
	r := wire.NewReader(b)
	e := &boardEntry{version: r.U64()}
	r.Fixed(e.value[:])
	r.Fixed(e.owner[:])
	e.bytes = r.U64()
	e.st = readStatement(r)
	if err := r.Done(); err != nil {
		return nil, corrupt("board entry", err)
	}
	return e, nil
}

func encodeValue(version uint64, value []byte) []byte {
	return append(wire.AppendU64(make([]byte, 0, 8+len(value)), version), value...)
}

func parseValue(b []byte) (version uint64, value []byte, err error) {
	r := wire.NewReader(b)
	version = r.U64()
	value = r.Raw(r.Len())
	if err := r.Done(); err != nil {
		return 0, nil, corrupt("board value", err)
	}
	return version, value, nil
}

func encodeList(list []wire.MailboxID) []byte {
	b := make([]byte, 0, len(list)*16)
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return b
}

func parseList(b []byte) ([]wire.MailboxID, error) {
	if len(b)%16 != 0 || len(b) > 16*broadcast.MaxMailboxes {
		return nil, corrupt("fan-out list", wire.ErrFormat)
	}
	list := make([]wire.MailboxID, len(b)/16)
	for i := range list {
		copy(list[i][:], b[16*i:])
	}
	if !broadcast.FanoutSorted(list) {
		return nil, corrupt("fan-out list", wire.ErrFormat)
	}
	return list, nil
}

// fanUse tells which entries need a list.
type fanUse struct {
	last  uint64 // the last number that uses it
	count uint32 // mailboxes in it
}

func (f *fanUse) encode() []byte {
	return wire.AppendU32(wire.AppendU64(make([]byte, 0, 12), f.last), f.count)
}

func parseFanUse(b []byte) (f fanUse, err error) {
	r := wire.NewReader(b)
	f.last, f.count = r.U64(), r.U32()
	if err := r.Done(); err != nil {
		return fanUse{}, corrupt("use of a fan-out list", err)
	}
	return f, nil
}

// end is the last number that a mailbox gets: the rotation's that ended it.
// Nothing of a later lineage is for it.
type end struct {
	lineage wire.Lineage
	n       uint64
}

// over tells whether a reader who is at number n of a lineage has had everything.
func (e end) over(lineage wire.Lineage, n uint64) bool {
	return e != end{} && (lineage != e.lineage || n >= e.n)
}

// mailbox is one registered reader.
type mailbox struct {
	key   keys.MailboxPublic
	birth crossverify.Statement // every later number is delivered
	end   end                   // by the rotation in force; zero: it has none

	seen     uint64       // Unix seconds; a hint, as are read and position
	read     wire.Lineage // in which the mailbox was read last
	position uint64       // how far
	hinted   bool         // they are not written yet
	links    int          // open ones
}

func (m *mailbox) encode() []byte {
	b := m.birth.Append(append(make([]byte, 0, 32+crossverify.StatementSize+16+8), m.key[:]...))
	return wire.AppendU64(append(b, m.end.lineage[:]...), m.end.n)
}

func parseMailbox(b []byte) (*mailbox, error) {
	r := wire.NewReader(b)
	m := new(mailbox)
	r.Fixed(m.key[:])
	m.birth = readStatement(r)
	r.Fixed(m.end.lineage[:])
	if m.end.n = r.U64(); (m.end.lineage == wire.Lineage{}) != (m.end.n == 0) {
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return nil, corrupt("mailbox", err)
	}
	return m, nil
}

func (m *mailbox) encodeHint() []byte {
	b := wire.AppendU64(wire.AppendU64(make([]byte, 0, 32), m.seen), m.position)
	if m.read == (wire.Lineage{}) {
		return b
	}
	return append(b, m.read[:]...)
}

// readIn is how far the mailbox was read in a lineage.
func (m *mailbox) readIn(l wire.Lineage) uint64 {
	if m.read != l {
		return 0
	}
	return m.position
}

func (m *mailbox) parseHint(b []byte) error {
	r := wire.NewReader(b)
	m.seen, m.position = r.U64(), r.U64()
	if r.Len() > 0 { // without it the hint is of no lineage
		if r.Fixed(m.read[:]); m.read == (wire.Lineage{}) {
			r.Fail(wire.ErrFormat)
		}
	}
	if err := r.Done(); err != nil {
		return corrupt("mailbox hint", err)
	}
	return nil
}

// grant is an invite posting key that may register and admit.
type grant struct {
	uses, perHour uint32
	expires       uint64 // Unix seconds
	revoked       bool
	used          uint32
	hour          uint64 // Unix seconds: when the counted hour began
	hourUsed      uint32
}

func (g *grant) encode() []byte {
	b := wire.AppendU32(make([]byte, 0, 40), g.uses)
	b = wire.AppendU32(b, g.perHour)
	b = wire.AppendU64(b, g.expires)
	b = wire.AppendBool(b, g.revoked)
	b = wire.AppendU32(b, g.used)
	b = wire.AppendU64(b, g.hour)
	return wire.AppendU32(b, g.hourUsed)
}

func parseGrant(b []byte) (*grant, error) {
	r := wire.NewReader(b)
	g := &grant{uses: r.U32(), perHour: r.U32(), expires: r.U64(), revoked: r.Bool(), used: r.U32(), hour: r.U64(), hourUsed: r.U32()}
	if err := r.Done(); err != nil {
		return nil, corrupt("grant", err)
	}
	return g, nil
}
