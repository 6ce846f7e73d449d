package member_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// at is a whole second, as the wire has it.
var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fill is 32 bytes of one value: a seed, a key or an id that a golden can pin.
func fill(n byte) (b [32]byte) {
	for i := range b {
		b[i] = n
	}
	return b
}

func signer(n byte) keys.SigningPrivate { return new(keys.SigningPrivate).FromSeed(fill(n)) }
func relayKey(n byte) keys.RelayPublic {
	return new(keys.RelayPrivate).FromSeed(fill(n)).Public()
}

// specInput and specHash are section 2 written once more, so that a changed
// tag or part is seen here and not only in goldens.
func specInput(tag string, parts ...[]byte) []byte {
	tag = "parallax/1/" + tag
	b := append([]byte{byte(len(tag))}, tag...)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func specHash(tag string, parts ...[]byte) [32]byte { return sha256.Sum256(specInput(tag, parts...)) }

func specDerive(t *testing.T, secret []byte, tag string, parts ...[]byte) [32]byte {
	t.Helper()
	k, err := hkdf.Key(sha256.New, secret, nil, string(specInput(tag, parts...)), 32)
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(k)
}

// pin compares bytes with their golden: length and SHA-256.
func pin(t *testing.T, b []byte, size int, golden string) {
	t.Helper()
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); len(b) != size || got != golden {
		t.Errorf("format changed: %d bytes with hash %s, golden is %d bytes with %s\n%x", len(b), got, size, golden, b)
	}
}

// strict checks what every Parse owes: what it takes, it gives back byte for
// byte; a byte less or more is refused.
func strict[T any](t *testing.T, parse func([]byte) (*T, error), b []byte, want *T) {
	t.Helper()
	got, err := parse(b)
	if err != nil {
		t.Fatalf("round trip: %v", err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("round trip changed the value:\n%+v\n%+v", got, want)
	}
	for n := range len(b) {
		if _, err := parse(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were taken", n, len(b))
		}
	}
	if _, err := parse(append(slices.Clone(b), 0)); !errors.Is(err, wire.ErrTrailing) {
		t.Fatalf("one byte too many: %v", err)
	}
}

// otherFormat checks the format number of an object that begins with one.
func otherFormat[T any](t *testing.T, parse func([]byte) (*T, error), b []byte) {
	t.Helper()
	b = slices.Clone(b)
	b[0] = 2
	if _, err := parse(b); !errors.Is(err, member.ErrNewerFormat) {
		t.Errorf("format 2: %v", err)
	}
	b[0] = 0
	if _, err := parse(b); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("format 0: %v", err)
	}
}

// fuzzObject: whatever parses is written back byte for byte.
func fuzzObject[T any](f *testing.F, seed []byte, parse func([]byte) (*T, error), write func(*T) []byte) {
	f.Add([]byte{})
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Add(append(slices.Clone(seed), 1))
	for i := 0; i < len(seed); i += max(1, len(seed)/16) {
		b := slices.Clone(seed)
		b[i] ^= 0x81
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse(b)
		if err != nil {
			if v != nil {
				t.Fatal("a value beside an error")
			}
			return
		}
		if got := write(v); !bytes.Equal(got, b) {
			t.Fatalf("taken, but written as other bytes:\n%x\n%x", b, got)
		}
	})
}

func exampleGenesis() *member.Genesis {
	g := &member.Genesis{
		Name: "Lemon Street", Founder: signer(1).Public(), Created: at, Random: fill(0xee), Epoch: fill(0xe1),
		Policy: member.Policy{Mode: member.ModeOpen, Suite: member.Suite1, Deadline: 30 * time.Second, Retention: 21 * 24 * time.Hour},
	}
	for i, name := range []string{"Ada", "Berta", "Çelik"} {
		g.Relays = append(g.Relays, member.RelayRef{
			Key: relayKey(byte(0x30 - i)), Operator: keys.OperatorPublic(fill(byte(0x40 + i))), OperatorName: name,
			Addrs: []string{fmt.Sprintf("/ip4/192.0.2.%d/tcp/4001", i+1), fmt.Sprintf("/dns4/r%d.example/udp/4001/quic-v1", i+1)},
		})
	}
	return g
}

func TestGenesis(t *testing.T) {
	g := exampleGenesis()
	b := g.Append(nil)
	strict(t, member.ParseGenesis, b, g)
	otherFormat(t, member.ParseGenesis, b)
	pin(t, b, 553, "3c58599341f3094bbf2dc4df51f95c29361a4279d49fcb10076a9403e12dc262")
	if id := g.ID(); id != wire.GroupID(specHash("genesis", b)) {
		t.Errorf("group id %s is not H(genesis)", id)
	}
	if !bytes.Equal(g.Append([]byte("x")), append([]byte("x"), b...)) {
		t.Error("Append does not append")
	}
}

// operatorOf is an operator with its private key, as tests need it for families.
func operatorOf(n byte) keys.OperatorPrivate { return new(keys.OperatorPrivate).FromSeed(fill(n)) }

func declared(t testing.TB, a, b keys.OperatorPrivate) crossverify.Declaration {
	t.Helper()
	d := crossverify.Declare(a.Public(), b.Public())
	if err := errors.Join(d.Sign(a), d.Sign(b)); err != nil {
		t.Fatal(err)
	}
	return d
}

// familyGenesis has three operators; the second and the third are a family, and
// its policy text wants two of three.
func familyGenesis(t testing.TB) *member.Genesis {
	g := exampleGenesis()
	g.Policy.Text, g.Policy.Carriers = "parallax policy 1\n", 2
	for i := range g.Relays {
		g.Relays[i].Operator = operatorOf(byte(0x50 + i)).Public()
		g.Policy.Text += fmt.Sprintf("operator O%d %s\n", i+1, g.Relays[i].Operator)
	}
	g.Policy.Text += "group two 2 O1 O2 O3\nquorum two\n"
	d := declared(t, operatorOf(0x51), operatorOf(0x52))
	g.Relays[1].Families = []crossverify.Declaration{d}
	g.Relays[2].Families = []crossverify.Declaration{d}
	return g
}

// A genesis carries a policy text and what both sides declared of families.
func TestGenesisPolicyText(t *testing.T) {
	g := familyGenesis(t)
	b := g.Append(nil)
	strict(t, member.ParseGenesis, b, g)
	pin(t, b, 1220, "1fe9115d9ccd88ba9c91b81d85320e087a9bba659e0fa16b0359204b01fea757")
	p := g.Voting(keys.Ed25519)
	if p.Rule == nil || p.Distinct() != 2 || p.Needed() != 2 || !p.Reachable() {
		t.Errorf("policy %+v: %d distinct, %d needed", p, p.Distinct(), p.Needed())
	}
	if p.Sufficient([]keys.OperatorPublic{g.Relays[1].Operator, g.Relays[2].Operator}) {
		t.Error("a family is enough for two")
	}
	// Who has no relay in the group can be named, but not needed.
	g.Policy.Text = strings.Replace(g.Policy.Text, "group two 2 O1 O2 O3", "operator X "+operatorOf(9).Public().String()+"\ngroup two 2 O1 O2 O3 X", 1)
	strict(t, member.ParseGenesis, g.Append(nil), g)
}

// The founder's order of relays is part of the group: R1 is R1 for everybody.
func TestGenesisOrder(t *testing.T) {
	g, h := exampleGenesis(), exampleGenesis()
	slices.Reverse(h.Relays)
	if g.ID() == h.ID() {
		t.Error("the order of relays does not change the group id")
	}
	strict(t, member.ParseGenesis, h.Append(nil), h)
}

func TestGenesisRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*member.Genesis)
		want   error
	}{
		"no name":            {func(g *member.Genesis) { g.Name = "" }, member.ErrName},
		"name too long":      {func(g *member.Genesis) { g.Name = strings.Repeat("x", 65) }, wire.ErrTooLong},
		"no founder":         {func(g *member.Genesis) { g.Founder = keys.SigningPublic{} }, wire.ErrFormat},
		"created too late":   {func(g *member.Genesis) { g.Created = time.Unix(253402300800, 0) }, wire.ErrFormat},
		"no relays":          {func(g *member.Genesis) { g.Relays = nil }, wire.ErrFormat},
		"relay twice":        {func(g *member.Genesis) { g.Relays[2].Key = g.Relays[0].Key }, wire.ErrFormat},
		"relay without key":  {func(g *member.Genesis) { g.Relays[0].Key = keys.RelayPublic{} }, wire.ErrFormat},
		"no operator key":    {func(g *member.Genesis) { g.Relays[1].Operator = keys.OperatorPublic{} }, wire.ErrFormat},
		"operator name":      {func(g *member.Genesis) { g.Relays[1].OperatorName = "a\nb" }, member.ErrName},
		"address with space": {func(g *member.Genesis) { g.Relays[1].Addrs[0] = "/ip4/1 2" }, wire.ErrFormat},
		"empty address":      {func(g *member.Genesis) { g.Relays[1].Addrs[0] = "" }, wire.ErrTooLong},
		"long address":       {func(g *member.Genesis) { g.Relays[1].Addrs[0] = strings.Repeat("/", 257) }, wire.ErrTooLong},
		"nine addresses":     {func(g *member.Genesis) { g.Relays[1].Addrs = slices.Repeat([]string{"/a"}, 9) }, wire.ErrTooLong},
		"quorum of four":     {func(g *member.Genesis) { g.Policy.Quorum = 4 }, wire.ErrFormat},
		"mode":               {func(g *member.Genesis) { g.Policy.Mode = 4 }, wire.ErrFormat},
		"suite":              {func(g *member.Genesis) { g.Policy.Suite = 2 }, member.ErrSuite},
		"no deadline":        {func(g *member.Genesis) { g.Policy.Deadline = 0 }, wire.ErrFormat},
		"no retention":       {func(g *member.Genesis) { g.Policy.Retention = 0 }, wire.ErrFormat},
		"seventeen carriers": {func(g *member.Genesis) { g.Policy.Carriers = 17 }, wire.ErrFormat},
		"text and quorum":    {func(g *member.Genesis) { *g = *familyGenesis(t); g.Policy.Quorum = 1 }, wire.ErrFormat},
		"text and strict":    {func(g *member.Genesis) { *g = *familyGenesis(t); g.Policy.Strict = true }, wire.ErrFormat},
		"no policy text":     {func(g *member.Genesis) { g.Policy.Text = "two of three" }, crossverify.ErrRule},
		"text too long":      {func(g *member.Genesis) { g.Policy.Text = strings.Repeat("#", 8193) }, wire.ErrTooLong},
		"text of others": {func(g *member.Genesis) {
			*g = *familyGenesis(t)
			for i := range g.Relays {
				g.Relays[i].Operator = operatorOf(byte(i + 1)).Public()
			}
		}, member.ErrUnreachable},
		"declaration twice": {func(g *member.Genesis) {
			*g = *familyGenesis(t)
			g.Relays[1].Families = slices.Repeat(g.Relays[1].Families, 2)
		}, wire.ErrFormat},
		"declaration of one": {func(g *member.Genesis) {
			*g = *familyGenesis(t)
			d := &g.Relays[1].Families[0]
			d.Second = d.First
		}, crossverify.ErrDeclaration},
		"five declarations": {func(g *member.Genesis) {
			g.Relays[0].Families = nil
			for i := range 5 {
				g.Relays[0].Families = append(g.Relays[0].Families, crossverify.Declaration{First: fill(1), Second: fill(byte(2 + i))})
			}
		}, wire.ErrTooLong},
		"longer than an entry": {func(g *member.Genesis) {
			g.Relays = manyRelays(16)
			for i := range g.Relays {
				g.Relays[i].Addrs = slices.Repeat([]string{strings.Repeat("/", 256)}, 8)
			}
		}, wire.ErrTooLong},
		"seventeen relays":    {func(g *member.Genesis) { g.Relays = manyRelays(17) }, nil},
		"not whole (unsaved)": {func(g *member.Genesis) { g.Policy.Deadline = 1500 * time.Millisecond }, nil},
		"too long (unsaved)":  {func(g *member.Genesis) { g.Policy.Deadline = 65536 * time.Second }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := exampleGenesis()
			c.change(g)
			if g.Check() == nil {
				t.Error("Check takes it")
			}
			_, err := member.ParseGenesis(g.Append(nil))
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("ParseGenesis: %v, want %v", err, c.want)
			}
		})
	}
	g := exampleGenesis()
	g.Relays = manyRelays(16)
	if err := g.Check(); err != nil {
		t.Errorf("16 relays: %v", err)
	}
}

func manyRelays(n int) (list []member.RelayRef) {
	for i := range n {
		list = append(list, member.RelayRef{Key: relayKey(byte(i + 1)), Operator: keys.OperatorPublic(fill(byte(i + 1))), OperatorName: "op"})
	}
	return list
}

// q counts operators, not relays (design section 7).
func TestNeeded(t *testing.T) {
	for _, c := range []struct {
		operators []byte
		quorum    uint8
		strict    bool
		want      int
	}{
		{[]byte{1}, 0, false, 1},
		{[]byte{1, 2}, 0, false, 2},
		{[]byte{1, 2, 3}, 0, false, 2},
		{[]byte{1, 2, 3, 4}, 0, false, 3},
		{[]byte{1, 1, 1}, 0, false, 1},
		{[]byte{1, 1, 2, 3}, 0, false, 2},
		{[]byte{1, 1, 2, 3}, 0, true, 3},
		{[]byte{1, 2, 3}, 1, false, 1},
		{[]byte{1, 2, 3}, 3, false, 3},
		{[]byte{1, 2, 3}, 1, true, 3},
	} {
		g := exampleGenesis()
		g.Relays = manyRelays(len(c.operators))
		for i, o := range c.operators {
			g.Relays[i].Operator = keys.OperatorPublic(fill(o))
		}
		g.Policy.Quorum, g.Policy.Strict = c.quorum, c.strict
		if got := g.Voting(keys.Ed25519).Needed(); got != c.want {
			t.Errorf("operators %v, quorum %d, strict %v: needed %d, want %d", c.operators, c.quorum, c.strict, got, c.want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "Zoë", "李雷", "סבתא", "أمينة", "👩‍👩‍👧", "O'Neil & Söhne", strings.Repeat("x", 64), strings.Repeat("ä", 32)} {
		if err := member.CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{
		"", " ", "a ", "\u00a0a", "a\tb", "a\nb", "a\x00", "a\x7fb", "a\u0085b", "\u2028", "a\u2029b", "a\x1b[31mb",
		"a\u202eb", "a\u202ab", "a\u2066b", "a\u2069b", "a\u200eb", "a\u200fb", "a\u061cb", "a\xff", "\xed\xa0\x80",
		strings.Repeat("x", 65), strings.Repeat("ä", 33),
	} {
		err := member.CheckName(bad)
		if !errors.Is(err, member.ErrName) {
			t.Errorf("%q: %v, want ErrName", bad, err)
			continue
		}
		if strings.ContainsAny(err.Error(), "\n\x1b\u202e\u2066") {
			t.Errorf("%q: the error prints what it refuses: %q", bad, err)
		}
	}
}

func TestIDs(t *testing.T) {
	gid, relay, channel := wire.GroupID(fill(5)), relayKey(6), wire.ChannelID(fill(7))
	key := signer(8).Public()
	if got := member.NewSeat(gid, key); got != wire.Seat(specHash("seat", gid[:], key[:])) {
		t.Errorf("seat %s", got)
	}
	box := new(keys.MailboxPrivate).FromSeed(fill(9)).Public()
	want := specHash("mailbox", relay[:], channel[:], box[:])
	if got := member.NewMailboxID(relay, channel, box); !bytes.Equal(got[:], want[:16]) {
		t.Errorf("mailbox %s", got)
	}
}

func TestShortID(t *testing.T) {
	for _, c := range []struct {
		first uint64
		want  string
	}{{0, "00000-00000"}, {42, "00000-00042"}, {1234567890, "12345-67890"}, {1<<64 - 1, "37095-51615"}, {10_000_000_000, "00000-00000"}} {
		var gid wire.GroupID
		binary.BigEndian.PutUint64(gid[:], c.first)
		gid[31] = 9 // the rest does not matter
		if got := member.ShortID(gid); got != c.want {
			t.Errorf("%d: %s, want %s", c.first, got, c.want)
		}
	}
}

func FuzzParseGenesis(f *testing.F) {
	f.Add(familyGenesis(f).Append(nil))
	fuzzObject(f, exampleGenesis().Append(nil), member.ParseGenesis, func(g *member.Genesis) []byte { return g.Append(nil) })
}
