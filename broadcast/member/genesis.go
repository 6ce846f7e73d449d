package member

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Limits of the group objects (docs/protocol.md section 8).
const (
	MaxName      = 64  // bytes of a group's, member's or operator's name
	MaxRelays    = 16  // relays of one group
	MaxAddresses = 8   // addresses of one relay
	MaxAddress   = 256 // bytes of one address

	MaxDeclarations = proto.MaxFamilies // of families, kept beside one relay
)

const (
	// ModeOpen: whoever holds the link admits itself (docs/protocol.md section 8).
	ModeOpen uint8 = 1
	// ModeApprove: whoever holds the link asks, and an admin lets it in.
	ModeApprove uint8 = 2
	// ModeClosed: there are no links. The stricter mode has the greater number.
	ModeClosed uint8 = 3
	// Suite1 is the only suite of this version (docs/protocol.md section 2).
	Suite1 uint8 = 1

	objectFormat = 1 // format number that every group object begins with
)

const (
	tagGenesis = "parallax/1/genesis"
	tagFirst   = "parallax/1/epoch/first"
	tagSeat    = "parallax/1/seat"
	tagMailbox = "parallax/1/mailbox"
)

// Why a group object is refused, beside the errors of wire.Reader.
var (
	ErrName         = errors.New("is not a usable name")
	ErrNewerFormat  = errors.New("was written by a newer version of Parallax: update this one")
	ErrSuite        = errors.New("uses a cipher suite this version does not have")
	ErrBadSignature = errors.New("has a signature that does not verify")
	ErrBadSeat      = errors.New("names a seat that is not its signing key's")
	ErrUnreachable  = errors.New("the policy can never be met by the operators of these relays")
)

// Policy is what the founder fixed for the group.
type Policy struct {
	Quorum    uint8         // operators that must agree; 0: a majority of them
	Strict    bool          // all operators must agree, whatever Quorum says
	Mode      uint8         // ModeOpen, ModeApprove or ModeClosed
	Suite     uint8         // least suite of an announcement
	Deadline  time.Duration // how long a path may stay silent: 1 to 65,535 whole seconds
	Retention time.Duration // how long entries and old keys are kept: 1 to 2^32-1 whole seconds
	Carriers  uint8         // relays that carry a text in full, where others get its digest; 0: 3
	// Text, if any, says in place of Quorum which operators are enough: nested
	// thresholds, as crossverify.ParseRule reads them (docs/protocol.md section
	// 9.1). At most crossverify.MaxRuleText bytes.
	Text string
}

// RelayRef names one relay of the group and who runs it.
type RelayRef struct {
	Key          keys.RelayPublic
	Operator     keys.OperatorPublic
	OperatorName string
	Addrs        []string // multiaddrs as text
	// Families is what the operator handed over of who belongs together: at
	// most MaxDeclarations, strictly ascending. One that does not verify says
	// nothing.
	Families []crossverify.Declaration
}

// Genesis is where a group begins; its hash is the group id.
type Genesis struct {
	Name    string
	Founder keys.SigningPublic
	Created time.Time // for people
	Policy  Policy
	Epoch   wire.Digest // FirstCommitment of the first epoch's key
	Relays  []RelayRef  // 1 to MaxRelays in the founder's order, keys distinct
	Random  [32]byte    // so that two groups are never the same
}

// Check tells whether ParseGenesis would take what Append writes. The founder
// calls it before the group id is computed for the first time.
func (g *Genesis) Check() error {
	if err := CheckName(g.Name); err != nil {
		return fmt.Errorf("genesis: group name: %w", err)
	}
	if g.Founder.IsZero() {
		return fmt.Errorf("genesis: the founder's key is missing: %w", wire.ErrFormat)
	}
	if len(g.Relays) == 0 || len(g.Relays) > MaxRelays {
		return fmt.Errorf("genesis: a group has 1 to %d relays, not %d: %w", MaxRelays, len(g.Relays), wire.ErrFormat)
	}
	seen := make(map[keys.RelayPublic]bool, len(g.Relays))
	for i := range g.Relays {
		ref := &g.Relays[i]
		if seen[ref.Key] || ref.Key.IsZero() || ref.Operator.IsZero() {
			return fmt.Errorf("genesis: relay %s is named twice or without a key: %w", ref.Key, wire.ErrFormat)
		}
		seen[ref.Key] = true
		if err := CheckName(ref.OperatorName); err != nil {
			return fmt.Errorf("genesis: operator of relay %s: %w", ref.Key, err)
		}
		if err := checkAddresses(ref.Addrs); err != nil {
			return fmt.Errorf("genesis: relay %s: %w", ref.Key, err)
		}
		if err := checkFamilies(ref.Families); err != nil {
			return fmt.Errorf("genesis: relay %s: %w", ref.Key, err)
		}
	}
	if g.Created.Unix() > maxSeconds {
		return fmt.Errorf("genesis: created at %d Unix seconds, at most %d: %w", g.Created.Unix(), int64(maxSeconds), wire.ErrFormat)
	}
	rule, err := g.Policy.check()
	if err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	if q := int(g.Policy.Quorum); q > g.operators() {
		return fmt.Errorf("genesis: a quorum of %d can never be met by %d operators: %w", q, g.operators(), wire.ErrFormat)
	}
	if rule != nil && !(crossverify.Policy{Operators: g.operatorKeys(), Rule: rule}).Reachable() {
		return fmt.Errorf("genesis: %w", ErrUnreachable)
	}
	if size := len(g.Append(nil)); size > MaxGenesis {
		return fmt.Errorf("genesis: it has %d bytes, at most %d: name fewer addresses: %w", size, MaxGenesis, wire.ErrTooLong)
	}
	return nil
}

// check is what holds for a policy over whatever relays. rule is that of its
// text, nil if it has none.
func (p *Policy) check() (rule *crossverify.Rule, err error) {
	switch {
	case p.Quorum > MaxRelays:
		return nil, fmt.Errorf("a quorum of %d operators, at most %d: %w", p.Quorum, MaxRelays, wire.ErrFormat)
	case p.Mode < ModeOpen || p.Mode > ModeClosed:
		return nil, fmt.Errorf("mode %d is unknown: %w", p.Mode, wire.ErrFormat)
	case p.Suite != Suite1:
		return nil, fmt.Errorf("least suite %d: the group %w", p.Suite, ErrSuite)
	case !wholeSeconds(p.Deadline, 1<<16-1):
		return nil, fmt.Errorf("deadline %v is not 1 to 65535 whole seconds: %w", p.Deadline, wire.ErrFormat)
	case !wholeSeconds(p.Retention, 1<<32-1):
		return nil, fmt.Errorf("retention %v is not 1 to 4294967295 whole seconds: %w", p.Retention, wire.ErrFormat)
	case p.Carriers > MaxRelays:
		return nil, fmt.Errorf("%d relays that carry a bundle, at most %d: %w", p.Carriers, MaxRelays, wire.ErrFormat)
	case p.Text == "":
		return nil, nil
	case p.Strict || p.Quorum != 0:
		return nil, fmt.Errorf("a policy text beside a number or strict: one of them says who is enough: %w", wire.ErrFormat)
	}
	return crossverify.ParseRule(p.Text)
}

// Append appends the genesis as docs/protocol.md section 8 lays it out.
func (g *Genesis) Append(b []byte) []byte {
	b = append(b, objectFormat)
	b = wire.AppendBytes(b, []byte(g.Name))
	b = append(b, g.Founder[:]...)
	b = appendSeconds(b, g.Created)
	b = appendPolicy(b, &g.Policy)
	b = append(b, g.Epoch[:]...)
	b = appendRelays(b, g.Relays)
	return append(b, g.Random[:]...)
}

func appendPolicy(b []byte, p *Policy) []byte {
	b = append(b, p.Quorum)
	b = wire.AppendBool(b, p.Strict)
	b = append(b, p.Mode, p.Suite)
	b = wire.AppendU16(b, uint16(p.Deadline/time.Second))
	b = wire.AppendU32(b, uint32(p.Retention/time.Second))
	b = append(b, p.Carriers)
	return wire.AppendBytes(b, []byte(p.Text))
}

func readPolicy(r *wire.Reader) Policy {
	return Policy{Quorum: r.U8(), Strict: r.Bool(), Mode: r.U8(), Suite: r.U8(),
		Deadline: time.Duration(r.U16()) * time.Second, Retention: time.Duration(r.U32()) * time.Second,
		Carriers: r.U8(), Text: string(r.Bytes(crossverify.MaxRuleText))}
}

// appendRelays appends a list of relays in its own order.
func appendRelays(b []byte, relays []RelayRef) []byte {
	b = append(b, uint8(len(relays)))
	for i := range relays {
		ref := &relays[i]
		b = append(b, ref.Key[:]...)
		b = append(b, ref.Operator[:]...)
		b = wire.AppendBytes(b, []byte(ref.OperatorName))
		b = appendAddresses(b, ref.Addrs)
		b = append(b, uint8(len(ref.Families)))
		for _, d := range ref.Families {
			b = d.Append(b)
		}
	}
	return b
}

func readRelays(r *wire.Reader) (relays []RelayRef) {
	for range readCount8(r, MaxRelays) {
		var ref RelayRef
		r.Fixed(ref.Key[:])
		r.Fixed(ref.Operator[:])
		ref.OperatorName = string(r.Bytes(MaxName))
		ref.Addrs = readAddresses(r)
		for range readCount8(r, MaxDeclarations) {
			raw := r.Raw(crossverify.DeclarationSize)
			if r.Err() != nil {
				break
			}
			d, err := crossverify.ParseDeclaration(raw)
			if err != nil {
				r.Fail(err)
			}
			ref.Families = append(ref.Families, d)
		}
		if r.Err() != nil {
			break
		}
		relays = append(relays, ref)
	}
	return relays
}

// ParseGenesis reads what Append wrote and nothing else.
func ParseGenesis(b []byte) (*Genesis, error) {
	g := new(Genesis)
	r := wire.NewReader(b)
	readObjectFormat(r)
	g.Name = string(r.Bytes(MaxName))
	r.Fixed(g.Founder[:])
	g.Created = readSeconds(r)
	g.Policy = readPolicy(r)
	r.Fixed(g.Epoch[:])
	g.Relays = readRelays(r)
	r.Fixed(g.Random[:])
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	return g, nil
}

// FirstCommitment is H("epoch/first", key): the genesis names the key of the
// first epoch by it, and cannot by the group id, which depends on it.
func FirstCommitment(key *keys.EpochKey) wire.Digest { return wire.Hash(tagFirst, key.Expose()) }

// ID is the group id: H("genesis", genesis).
func (g *Genesis) ID() wire.GroupID {
	return wire.GroupID(wire.Hash(tagGenesis, g.Append(nil)))
}

// Voting says whose word counts in the group and how often it is needed, over
// the relays in their order: the text if there is one, all in a strict group,
// otherwise the quorum, otherwise a majority. Operators count once, families that
// both sides declared (under verify) too.
func (g *Genesis) Voting(verify keys.Verify) crossverify.Policy {
	return voting(&g.Policy, g.Relays, nil, verify)
}

// voting is Voting for a policy and relays that may come from two operations:
// where the relays' operators cannot meet the policy, all that it names are
// needed, and all there are where it names none of them. Relays that are outside
// do not count.
func voting(policy *Policy, relays []RelayRef, outside []bool, verify keys.Verify) crossverify.Policy {
	p := crossverify.Policy{Quorum: int(policy.Quorum), Strict: policy.Strict, Deadline: policy.Deadline, Outside: outside}
	var families []crossverify.Declaration
	for i := range relays {
		p.Operators = append(p.Operators, relays[i].Operator)
		families = append(families, relays[i].Families...)
	}
	if len(families) > 0 {
		p.Families = crossverify.Families(p.Operators, families, verify)
	}
	if policy.Text == "" {
		p.Quorum = p.Needed() // a part of the paths asks for as many as all of them
		return p
	}
	rule, err := crossverify.ParseRule(policy.Text)
	for i, o := range p.Operators {
		if err == nil && (i >= len(outside) || !outside[i]) && slices.Contains(rule.Operators(), o) {
			p.Rule = rule
			return p
		}
	}
	p.Quorum = len(p.Operators)
	return p
}

func (g *Genesis) operatorKeys() (list []keys.OperatorPublic) {
	for i := range g.Relays {
		list = append(list, g.Relays[i].Operator)
	}
	return list
}

func (g *Genesis) operators() int { return crossverify.Policy{Operators: g.operatorKeys()}.Distinct() }

// NewSeat is the seat of the member whose first signing key this is.
func NewSeat(gid wire.GroupID, first keys.SigningPublic) wire.Seat {
	return wire.Seat(wire.Hash(tagSeat, gid[:], first[:]))
}

// NewMailboxID is the id of the mailbox that this key opens on one channel.
func NewMailboxID(relay keys.RelayPublic, channel wire.ChannelID, key keys.MailboxPublic) (id wire.MailboxID) {
	d := wire.Hash(tagMailbox, relay[:], channel[:], key[:])
	copy(id[:], d[:])
	return id
}

// ShortID is how people tell their groups apart: ten decimal digits, as
// "12345-67890", from the first 8 bytes of the group id as a big-endian number
// modulo 10^10. It is one word on a command line. It proves nothing: 33 bits
// can be met by trying, so members compare the group code, not this.
func ShortID(gid wire.GroupID) string {
	n := binary.BigEndian.Uint64(gid[:8]) % 10_000_000_000
	return fmt.Sprintf("%05d-%05d", n/100_000, n%100_000)
}

// CheckName says why people cannot be shown this name of a group, a member or
// an operator: names stand in the middle of lines, next to names of others, so
// they must not end a line, hide, or turn the text after them around.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("an empty name %w: give it at least one character", ErrName)
	case len(name) > MaxName:
		return fmt.Errorf("a name of %d bytes %w: it may have %d bytes", len(name), ErrName, MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("a name that is no valid UTF-8 %w", ErrName)
	}
	for i, c := range name {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			return fmt.Errorf("a name with the control character %U at byte %d %w", c, i, ErrName)
		}
		if unicode.Is(unicode.Bidi_Control, c) {
			return fmt.Errorf("a name with the character %U at byte %d, which changes the direction of text, %w", c, i, ErrName)
		}
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return fmt.Errorf("a name that begins or ends with a space %w", ErrName)
	}
	return nil
}

// checkFamilies: each declaration stands once, so that a list is written in one
// way only.
func checkFamilies(list []crossverify.Declaration) error {
	if len(list) > MaxDeclarations {
		return fmt.Errorf("%d family declarations are more than %d: %w", len(list), MaxDeclarations, wire.ErrTooLong)
	}
	for i, d := range list {
		if _, err := crossverify.ParseDeclaration(d.Append(nil)); err != nil {
			return err
		}
		if i > 0 && compareDeclarations(list[i-1], d) >= 0 {
			return fmt.Errorf("its family declarations are not strictly ascending: %w", wire.ErrFormat)
		}
	}
	return nil
}

func compareDeclarations(a, b crossverify.Declaration) int {
	return bytes.Compare(a.Append(nil), b.Append(nil))
}

// checkAddresses: each is a multiaddr as text, so printable ASCII without
// spaces; what it means is the driver's to know.
func checkAddresses(addrs []string) error {
	if len(addrs) > MaxAddresses {
		return fmt.Errorf("%d addresses are more than %d: %w", len(addrs), MaxAddresses, wire.ErrTooLong)
	}
	for _, a := range addrs {
		if len(a) == 0 || len(a) > MaxAddress {
			return fmt.Errorf("an address has 1 to %d bytes, not %d: %w", MaxAddress, len(a), wire.ErrTooLong)
		}
		for i := range len(a) {
			if a[i] <= ' ' || a[i] > '~' {
				return fmt.Errorf("address %q is not printable ASCII: %w", a, wire.ErrFormat)
			}
		}
	}
	return nil
}

func appendAddresses(b []byte, addrs []string) []byte {
	b = append(b, uint8(len(addrs)))
	for _, a := range addrs {
		b = wire.AppendBytes(b, []byte(a))
	}
	return b
}

func readAddresses(r *wire.Reader) (addrs []string) {
	for range readCount8(r, MaxAddresses) {
		addrs = append(addrs, string(r.Bytes(MaxAddress)))
	}
	return addrs
}

// readObjectFormat reads the format number that every group object begins with.
func readObjectFormat(r *wire.Reader) {
	if v := r.U8(); r.Err() == nil && v != objectFormat {
		if v == 0 {
			r.Fail(wire.ErrFormat)
		}
		r.Fail(ErrNewerFormat)
	}
}

// readCount8 reads a one-byte count of at most limit, 0 after an error.
func readCount8(r *wire.Reader, limit int) int {
	n := int(r.U8())
	if n > limit {
		r.Fail(wire.ErrTooLong)
	}
	if r.Err() != nil {
		return 0
	}
	return n
}

// maxSeconds is the end of the year 9999 in Unix seconds, the last that
// time.Time prints with four digits.
const maxSeconds = 253402300799

// appendSeconds appends Unix seconds; the zero time and what was before 1970
// become 0.
func appendSeconds(b []byte, t time.Time) []byte {
	return wire.AppendU64(b, uint64(max(t.Unix(), 0)))
}

// readSeconds reads Unix seconds; 0 is the zero time.
func readSeconds(r *wire.Reader) time.Time {
	s := r.U64()
	if s > maxSeconds {
		r.Fail(wire.ErrFormat)
	}
	if s == 0 || r.Err() != nil {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

// checkExpiry refuses the zero time, so that 0 is never read as "never".
func checkExpiry(t time.Time) error {
	if s := t.Unix(); s < 1 || s > maxSeconds {
		return fmt.Errorf("it expires at %d Unix seconds, outside 1 to %d: %w", s, int64(maxSeconds), wire.ErrFormat)
	}
	return nil
}

// wholeSeconds tells whether d is 1 to limit seconds without a rest.
func wholeSeconds(d time.Duration, limit int64) bool {
	return d%time.Second == 0 && d >= time.Second && int64(d/time.Second) <= limit
}
