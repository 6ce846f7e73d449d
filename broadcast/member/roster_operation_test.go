package member_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func epochKey(n byte) *keys.EpochKey { k := keys.NewSecret[keys.RoleEpoch](fill(n)); return &k }

// exampleOperation is the third operation of signing key 1 with this body.
func exampleOperation(body member.OperationBody) *member.Operation {
	if b, ok := body.(member.OpInvite); ok {
		b.Record.Sign(signer(1))
		body = b
	}
	o := &member.Operation{Group: fill(5), Author: signer(1).Public(), Sequence: 3, Previous: fill(0x61),
		Heads: []wire.Digest{fill(0x60), fill(0x62)}, Time: at, Body: body}
	o.Sign(signer(1))
	return o
}

type goldenOperation struct {
	name string
	body member.OperationBody
	size int
}

func exampleBodies() []goldenOperation {
	g := exampleGenesis()
	return []goldenOperation{
		{"invite", member.OpInvite{Record: *exampleInvite(), Postings: []member.Posting{{Relay: keys.RelayPublic(fill(3)), Key: keys.PostingPublic(fill(9))}, {Relay: keys.RelayPublic(fill(4)), Key: keys.PostingPublic(fill(8))}}}, 518},
		{"add", member.OpAdd{Seat: fill(0x71), Announcement: fill(0x72), Role: member.RoleAdmin}, 308},
		{"adopt", member.OpAdopt{Seats: []member.Adopted{
			{Seat: fill(0x71), Announcement: fill(0x72), Invite: [16]byte{7, 3}, Role: member.RoleMember},
			{Seat: fill(0x73), Announcement: fill(0x74), Role: member.RoleReader}}}, 406},
		{"remove", member.OpRemove{Seat: fill(0x71), Cut: member.Cut{Operation: fill(0x72), Incarnation: wire.Incarnation{1, 2, 3, 4, 5, 6, 7, 8}, Sequence: 77}}, 323},
		{"role", member.OpRole{Seat: fill(0x71), Role: member.RoleOwner, Cut: member.Cut{Operation: fill(0x72), Incarnation: wire.Incarnation{1, 2, 3, 4, 5, 6, 7, 8}, Sequence: 77}}, 324},
		{"relays", member.OpRelays{Ordinal: 2, Relays: g.Relays}, 664},
		{"policy", member.OpPolicy{Policy: g.Policy}, 258},
		{"epoch", member.NewOpEpoch(fill(5), epochKey(0xa1), []member.EpochHead{{Operation: fill(0x50), Number: 2<<32 | 9}, {Operation: fill(0x51), Number: 1<<32 | 8}}, g.Relays), 541},
		{"leave", member.OpLeave{}, 243},
		{"revoke", member.OpRevoke{Invite: [16]byte{1, 2, 3}}, 259},
		{"spares", member.OpSpares{Spares: []member.Spare{
			{Key: keys.RelayPublic(fill(7)), Addrs: []string{"/ip4/192.0.2.7/tcp/4801", "/dns4/seven.example/tcp/4801"}, Token: "token-7", Auto: true},
			{Key: keys.RelayPublic(fill(6)), Addrs: []string{"/ip4/192.0.2.6/tcp/4801"}}}}, 413},
	}
}

func TestOperation(t *testing.T) {
	for _, c := range exampleBodies() {
		t.Run(c.name, func(t *testing.T) {
			o := exampleOperation(c.body)
			b := o.Append(nil)
			strict(t, member.ParseOperation, b, o)
			otherFormat(t, member.ParseOperation, b)
			pin(t, b, c.size, goldenOperations[c.name])
			body := b[:len(b)-64]
			if o.Digest() != wire.Digest(specHash("roster/digest", body)) {
				t.Error("the digest is not H(roster/digest, body)")
			}
			if !keys.Ed25519(o.Author, specInput("roster", body), o.Signature[:]) {
				t.Error("the signature is not Sign(roster, body)")
			}
			if err := o.Verify(keys.Ed25519); err != nil {
				t.Error(err)
			}
			if o.Seat() != member.NewSeat(fill(5), signer(1).Public()) {
				t.Error("another seat")
			}
			unsigned := *o
			unsigned.Signature = [64]byte{}
			if unsigned.Digest() != o.Digest() {
				t.Error("the digest depends on the signature")
			}
			if err := unsigned.Verify(keys.Ed25519); !errors.Is(err, member.ErrBadSignature) {
				t.Errorf("unsigned: %v", err)
			}
			// A changed byte is refused, or is another operation that nobody signed.
			for i := range body {
				x := slices.Clone(b)
				x[i] ^= 0x04
				if p, err := member.ParseOperation(x); err == nil && (p.Digest() == o.Digest() || p.Verify(keys.Ed25519) == nil) {
					t.Fatalf("byte %d may change", i)
				}
			}
		})
	}
}

// The record of an invite is signed by who issues it, not by anybody else.
func TestOperationInviteByAnother(t *testing.T) {
	o := exampleOperation(member.OpLeave{})
	o.Body = member.OpInvite{Record: func() member.InviteRecord { r := *exampleInvite(); r.Sign(signer(2)); return r }()}
	o.Sign(signer(1))
	if err := o.Verify(keys.Ed25519); !errors.Is(err, member.ErrBadSignature) {
		t.Error(err)
	}
}

func TestOperationRefused(t *testing.T) {
	long := strings.Repeat("/", member.MaxAddress)
	wide := manyRelays(member.MaxRelays)
	for i := range wide {
		wide[i].Addrs = slices.Repeat([]string{long}, member.MaxAddresses)
	}
	for name, c := range map[string]struct {
		change func(*member.Operation)
		want   error
	}{
		"no author":        {func(o *member.Operation) { o.Author = keys.SigningPublic{} }, wire.ErrFormat},
		"number 0":         {func(o *member.Operation) { o.Sequence = 0 }, member.ErrSequence},
		"first of many":    {func(o *member.Operation) { o.Sequence = 1 }, member.ErrSequence},
		"no predecessor":   {func(o *member.Operation) { o.Previous = wire.Digest{} }, member.ErrSequence},
		"number too great": {func(o *member.Operation) { o.Sequence = member.MaxSequence + 1 }, wire.ErrTooLong},
		"heads descend":    {func(o *member.Operation) { slices.Reverse(o.Heads) }, wire.ErrFormat},
		"head twice":       {func(o *member.Operation) { o.Heads[0] = o.Heads[1] }, wire.ErrFormat},
		"head zero":        {func(o *member.Operation) { o.Heads[0] = wire.Digest{} }, wire.ErrFormat},
		"head is previous": {func(o *member.Operation) { o.Heads[0] = o.Previous }, wire.ErrFormat},
		"too many heads":   {func(o *member.Operation) { o.Heads = make([]wire.Digest, member.MaxHeads+1) }, wire.ErrTooLong},
		"year 10000":       {func(o *member.Operation) { o.Time = time.Unix(253402300800, 0) }, wire.ErrFormat},
		"invite of another": {func(o *member.Operation) {
			o.Body = member.OpInvite{Record: member.InviteRecord{Uses: 1, PerHour: 1, Expires: at, Role: 1, Mode: member.ModeOpen}}
		}, wire.ErrFormat},
		"add without role": {func(o *member.Operation) { o.Body = member.OpAdd{} }, wire.ErrFormat},
		"role 5":           {func(o *member.Operation) { o.Body = member.OpRole{Role: 5} }, wire.ErrFormat},
		"adopt nobody":     {func(o *member.Operation) { o.Body = member.OpAdopt{} }, wire.ErrFormat},
		"adopt twice": {func(o *member.Operation) {
			o.Body = member.OpAdopt{Seats: slices.Repeat([]member.Adopted{{Role: 1}}, 2)}
		}, wire.ErrFormat},
		"adopt an admin": {func(o *member.Operation) { o.Body = member.OpAdopt{Seats: []member.Adopted{{Role: 3}}} }, wire.ErrFormat},
		"adopt 65": {func(o *member.Operation) {
			o.Body = member.OpAdopt{Seats: slices.Repeat([]member.Adopted{{Role: 1}}, member.MaxAdopted+1)}
		}, wire.ErrTooLong},
		"remove oneself": {func(o *member.Operation) { o.Body = member.OpRemove{Seat: o.Seat()} }, wire.ErrFormat},
		"relay list 0":   {func(o *member.Operation) { o.Body = member.OpRelays{Relays: manyRelays(1)} }, wire.ErrFormat},
		"no relays":      {func(o *member.Operation) { o.Body = member.OpRelays{Ordinal: 1} }, wire.ErrFormat},
		"relay twice": {func(o *member.Operation) {
			o.Body = member.OpRelays{Ordinal: 1, Relays: slices.Repeat(manyRelays(1), 2)}
		}, wire.ErrFormat},
		"operation long": {func(o *member.Operation) { o.Body = member.OpRelays{Ordinal: 1, Relays: wide} }, wire.ErrTooLong},
		"policy mode": {func(o *member.Operation) {
			o.Body = member.OpPolicy{Policy: member.Policy{Suite: 1, Deadline: time.Second, Retention: time.Second}}
		}, wire.ErrFormat},
		"9 spares": {func(o *member.Operation) {
			o.Body = member.OpSpares{Spares: make([]member.Spare, member.MaxSpares+1)}
		}, wire.ErrTooLong},
		"spare twice": {func(o *member.Operation) {
			o.Body = member.OpSpares{Spares: slices.Repeat([]member.Spare{{Key: relayKey(1), Addrs: []string{"/a"}}}, 2)}
		}, wire.ErrFormat},
		"spare nobody":  {func(o *member.Operation) { o.Body = member.OpSpares{Spares: []member.Spare{{Addrs: []string{"/a"}}}} }, wire.ErrFormat},
		"spare nowhere": {func(o *member.Operation) { o.Body = member.OpSpares{Spares: []member.Spare{{Key: relayKey(1)}}} }, wire.ErrFormat},
		"spare at much": {func(o *member.Operation) {
			o.Body = member.OpSpares{Spares: []member.Spare{{Key: relayKey(1), Addrs: slices.Repeat([]string{"/a"}, member.MaxAddresses+1)}}}
		}, wire.ErrTooLong},
		"spare's token": {func(o *member.Operation) {
			o.Body = member.OpSpares{Spares: []member.Spare{{Key: relayKey(1), Addrs: []string{"/a"}, Token: "a b"}}}
		}, wire.ErrFormat},
		"spare's token long": {func(o *member.Operation) {
			o.Body = member.OpSpares{Spares: []member.Spare{{Key: relayKey(1), Addrs: []string{"/a"}, Token: strings.Repeat("t", 65)}}}
		}, wire.ErrTooLong},
		"epoch of nothing": {func(o *member.Operation) { o.Body = member.NewOpEpoch(fill(5), epochKey(1), nil, manyRelays(1)) }, wire.ErrFormat},
		"epoch nowhere": {func(o *member.Operation) {
			o.Body = member.NewOpEpoch(fill(5), epochKey(1), []member.EpochHead{{Number: 1}}, nil)
		}, wire.ErrFormat},
		"epoch number": {func(o *member.Operation) {
			b := member.NewOpEpoch(fill(5), epochKey(1), []member.EpochHead{{Number: 1}}, manyRelays(1))
			b.Number++
			o.Body = b
		}, wire.ErrFormat},
		"epoch relays": {func(o *member.Operation) {
			b := member.NewOpEpoch(fill(5), epochKey(1), []member.EpochHead{{Number: 1}}, manyRelays(2))
			slices.Reverse(b.Postings)
			o.Body = b
		}, wire.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			o := exampleOperation(member.OpLeave{})
			c.change(o)
			if err := o.Check(); err == nil {
				t.Error("Check takes it")
			}
			if _, err := member.ParseOperation(o.Append(nil)); !errors.Is(err, c.want) {
				t.Errorf("ParseOperation: %v, want %v", err, c.want)
			}
		})
	}
	o := exampleOperation(member.OpLeave{})
	o.Body = nil
	if o.Check() == nil {
		t.Error("an operation without body")
	}
	b := exampleOperation(member.OpLeave{}).Append(nil)
	for kind, want := range map[byte]error{0: wire.ErrFormat, 12: member.ErrNewerFormat, 255: member.ErrNewerFormat} {
		b[len(b)-65] = kind
		if _, err := member.ParseOperation(b); !errors.Is(err, want) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

func FuzzParseOperation(f *testing.F) {
	for _, c := range exampleBodies() {
		f.Add(exampleOperation(c.body).Append(nil))
	}
	fuzzObject(f, exampleOperation(member.OpLeave{}).Append(nil), member.ParseOperation, func(o *member.Operation) []byte { return o.Append(nil) })
}

// FuzzRoster gives a roster whatever parses: it must neither panic nor take
// what the genesis gave nobody a right to.
func FuzzRoster(f *testing.F) {
	for _, c := range exampleBodies() {
		f.Add(exampleOperation(c.body).Append(nil))
	}
	g := exampleGenesis()
	first := &member.Operation{Group: g.ID(), Author: g.Founder, Sequence: 1, Time: at, Body: member.OpAdd{Seat: fill(9), Role: member.RoleAdmin}}
	f.Add(first.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := member.ParseOperation(b)
		if err != nil {
			return
		}
		r := member.NewRoster(g, anySignature)
		if accepted, _ := r.Add(o); len(accepted) > 0 && o.Author != g.Founder {
			t.Fatalf("taken from a stranger: %+v", o)
		}
		r.State()
		_ = r.Draw(func(s wire.Seat) string { return s.Short() })
	})
}

func TestEpochInUse(t *testing.T) {
	gid := wire.GroupID(fill(5))
	heads := []member.EpochHead{{Operation: fill(0x10), Number: 1<<32 | 7}, {Operation: fill(0x11), Number: 2<<32 | 8}}
	one, err := member.EpochInUse(gid, heads[:1], []keys.EpochKey{*epochKey(1)})
	if err != nil || one.Number != heads[0].Number || !one.Key.Equal(epochKey(1)) {
		t.Errorf("one head: %v, %d", err, one.Number)
	}
	both, err := member.EpochInUse(gid, heads, []keys.EpochKey{*epochKey(1), *epochKey(2)})
	if err != nil {
		t.Fatal(err)
	}
	k1, k2 := fill(1), fill(2)
	want := specDerive(t, append(k1[:], k2[:]...), "epoch/merged", gid[:], heads[0].Operation[:], heads[1].Operation[:])
	if [32]byte(both.Key.Expose()) != want {
		t.Error("the key is not HKDF(all keys, epoch/merged, gid, heads)")
	}
	c := specHash("epoch/commitment", gid[:], want[:])
	if wire.Digest(c) != member.EpochCommitment(gid, &both.Key) || both.Number>>32 != 2 || fmt.Sprintf("%08x", uint32(both.Number)) != fmt.Sprintf("%x", c[:4]) {
		t.Errorf("number %x of %x", both.Number, c)
	}
	if _, err := member.EpochInUse(gid, heads, []keys.EpochKey{*epochKey(1)}); err == nil {
		t.Error("a key is missing")
	}
	if _, err := member.EpochInUse(gid, nil, nil); err == nil {
		t.Error("no head at all")
	}
	b := member.NewOpEpoch(gid, epochKey(3), heads, exampleGenesis().Relays)
	if !b.Fits(gid, epochKey(3)) || b.Fits(gid, epochKey(4)) || b.Fits(wire.GroupID{}, epochKey(3)) {
		t.Error("Fits does not tell keys or groups apart")
	}
	b.Postings[1].Key[0]++
	if b.Fits(gid, epochKey(3)) {
		t.Error("another posting key fits")
	}
}
