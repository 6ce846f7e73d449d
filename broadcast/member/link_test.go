package member_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func exampleInvitation() *member.Invitation {
	return &member.Invitation{
		Group: fill(5), Door: keys.NewSecret[keys.RoleDoor](fill(0xd0)), Secret: keys.NewSecret[keys.RoleInviting](fill(0xd1)),
		Channels: keys.NewSecret[keys.RoleChannels](fill(0xd2)), Expires: at.Add(7 * 24 * time.Hour), Role: member.RoleMember, Mode: member.ModeOpen,
		Relays: []member.LinkRelay{
			{Key: relayKey(0x31), Addrs: []string{"/ip4/192.0.2.1/tcp/4001"}},
			{Key: relayKey(0x30), Addrs: []string{"/dns4/r2.example/udp/4001/quic-v1", "/ip6/2001:db8::2/tcp/4001"}},
			{Key: relayKey(0x32)},
		},
	}
}

// relink makes the link of these bytes with a length and a check that hold.
func relink(b []byte) string {
	b = slices.Clone(b)
	binary.BigEndian.PutUint16(b[1:], uint16(len(b)-3+4))
	check := specHash("link", b)
	return "parallax:" + base64.RawURLEncoding.EncodeToString(append(b, check[:4]...))
}

// unlink is what relink was made from.
func unlink(t *testing.T, link string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(link, "parallax:"))
	if err != nil {
		t.Fatal(err)
	}
	return b[:len(b)-4]
}

func TestLink(t *testing.T) {
	i := exampleInvitation()
	link := i.Link()
	got, err := member.ParseLink(link)
	if err != nil || !reflect.DeepEqual(got, i) {
		t.Fatalf("round trip: %v\n%+v\n%+v", err, got, i)
	}
	if relink(unlink(t, link)) != link {
		t.Error("length or check are not those of section 8")
	}
	pin(t, []byte(link), 459, "74160426f3c42f5f31cf7d90f159b9746e33a03dee1ac2d2d4b480efe90cfbda")
}

// An invitation as people paste it, wrapped by the program that sent it. One
// that lost its end says so.
func ExampleParseLink() {
	const pasted = `
parallax:AQFOBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQXQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0
NDQ0NDQ0NHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tLS0tL
S0tIAAAAAaa1kwAEDSAdaWX5yGhVuLgeZ3lzAxTJNxufq8c3UYlCGjsUyFd0BAAAAFy9pcDQvMTkyLjAuMi4xL3Rjc
C80MDAxG6QHW3fJ4_s-zeFc2vUiHzwQNz5iP3sOHvdjZrCvcTcCAAAAIS9kbnM0L3IyLmV4YW1wbGUvdWRwLzQwMDE
vcXVpYy12MQAAABkvaXA2LzIwMDE6ZGI4OjoyL3RjcC80MDAxXiEsCYDks5_AlyETSqAhCTdO39JgwNPQPLUByNZUV
6kApzQMvw
`
	i, err := member.ParseLink(pasted)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("group", member.ShortID(i.Group), "until", i.Expires.Format(time.DateOnly))
	for _, relay := range i.Relays {
		fmt.Println(relay.Key.String()[:8], relay.Addrs)
	}
	fmt.Println(i.Door, i.Secret, i.Channels)

	_, err = member.ParseLink(pasted[:400])
	fmt.Println(err)
	// Output:
	// group 41903-83365 until 2026-03-08
	// 48075a59 [/ip4/192.0.2.1/tcp/4001]
	// 1ba4075b [/dns4/r2.example/udp/4001/quic-v1 /ip6/2001:db8::2/tcp/4001]
	// 5e212c09 []
	// [secret] [secret] [secret]
	// a part of the invitation link is missing: copy the whole link again (386 of 450 characters are there)
}

// People paste wrapped lines, and phones write capitals.
func TestLinkPasted(t *testing.T) {
	i := exampleInvitation()
	link := i.Link()
	var wrapped strings.Builder
	for n, c := range link {
		if n%70 == 69 {
			wrapped.WriteString("\r\n  ")
		}
		wrapped.WriteRune(c)
	}
	for _, pasted := range []string{
		" " + link + "\n", "\t\n" + link, wrapped.String(), strings.Replace(link, "parallax:", "Parallax: ", 1),
		strings.Replace(link, "parallax:", "PARALLAX:", 1), link[:100] + "\u00a0" + link[100:],
	} {
		got, err := member.ParseLink(pasted)
		if err != nil || !reflect.DeepEqual(got, i) {
			t.Errorf("%q: %v", pasted, err)
		}
	}
}

func TestLinkEveryCut(t *testing.T) {
	link := exampleInvitation().Link()
	for n := range len(link) {
		want := member.ErrLinkCut
		if n < len("parallax:") {
			want = member.ErrLinkNot
		}
		if _, err := member.ParseLink(link[:n]); !errors.Is(err, want) {
			t.Errorf("the first %d of %d characters: %v, want %v", n, len(link), err, want)
		}
	}
}

func TestLinkEverySubstitution(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_ .=+/%<é\x00\xff"
	link := exampleInvitation().Link()
	count := map[error]int{}
	for n := range len(link) {
		for _, c := range alphabet {
			changed := link[:n] + string(c) + link[n+1:]
			if strings.EqualFold(changed[:9], link[:9]) && changed[9:] == link[9:] {
				continue // the same character, or a capital in the prefix
			}
			i, err := member.ParseLink(changed)
			if err == nil || i != nil {
				t.Fatalf("character %d became %q and the link was taken", n, c)
			}
			known := false
			for _, cause := range []error{member.ErrLinkNot, member.ErrLinkCut, member.ErrLinkMistyped} {
				if errors.Is(err, cause) {
					known = true
					count[cause]++
				}
			}
			if !known {
				t.Fatalf("character %d became %q: %v", n, c, err)
			}
		}
	}
	total := count[member.ErrLinkNot] + count[member.ErrLinkCut] + count[member.ErrLinkMistyped]
	if count[member.ErrLinkMistyped]*100 < total*90 {
		t.Errorf("only %d of %d are called mistyped: %v", count[member.ErrLinkMistyped], total, count)
	}
}

func TestLinkRefused(t *testing.T) {
	link := exampleInvitation().Link()
	raw := unlink(t, link)
	format := func(v byte) string { b := slices.Clone(raw); b[0] = v; return relink(b) }
	from := func(change func(*member.Invitation)) string {
		i := exampleInvitation()
		change(i)
		if i.Check() == nil {
			t.Error("Check takes what must not become a link")
		}
		return i.Link()
	}
	swap := []byte(link)
	swap[50], swap[51] = swap[51], swap[50]
	if swap[50] == swap[51] {
		t.Fatal("choose two different neighbours")
	}
	for name, c := range map[string]struct {
		link string
		want error
	}{
		"nothing":           {"", member.ErrLinkNot},
		"a web address":     {"https://example.org/" + link, member.ErrLinkNot},
		"another scheme":    {"parallel:" + link[9:], member.ErrLinkNot},
		"words before":      {"Join: " + link, member.ErrLinkNot},
		"prefix alone":      {"parallax:", member.ErrLinkCut},
		"middle missing":    {link[:100] + link[140:], member.ErrLinkCut},
		"twice":             {link + link[9:], member.ErrLinkMistyped},
		"full stop":         {link + ".", member.ErrLinkMistyped},
		"letter added":      {link + "A", member.ErrLinkMistyped},
		"padding":           {link + "=", member.ErrLinkMistyped},
		"neighbours":        {string(swap), member.ErrLinkMistyped},
		"lower case":        {strings.ToLower(link), nil}, // changes length and all: any cause
		"length of nothing": {"parallax:AQAA", member.ErrLinkMistyped},
		"next format":       {format(2), member.ErrLinkVersion},
		"last format":       {format(255), member.ErrLinkVersion},
		"format 0":          {format(0), member.ErrLinkNot},
		"a later body":      {relink([]byte{2, 0, 0, 'n', 'e', 'w'}), member.ErrLinkVersion},
		"empty body":        {relink([]byte{1, 0, 0}), member.ErrLinkNot},
		"trailing byte":     {relink(append(slices.Clone(raw), 0)), member.ErrLinkNot},
		"no relay":          {from(func(i *member.Invitation) { i.Relays = nil }), member.ErrLinkNot},
		"relay twice":       {from(func(i *member.Invitation) { i.Relays[1].Key = i.Relays[0].Key }), member.ErrLinkNot},
		"admin":             {from(func(i *member.Invitation) { i.Role = 3 }), member.ErrLinkNot},
		"no expiry":         {from(func(i *member.Invitation) { i.Expires = time.Time{} }), member.ErrLinkNot},
		"bad address":       {from(func(i *member.Invitation) { i.Relays[0].Addrs[0] = "\x1b[2J" }), member.ErrLinkNot},
	} {
		i, err := member.ParseLink(c.link)
		if err == nil || i != nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 250 {
			t.Errorf("%s: not a sentence for people: %q", name, err)
		}
	}
}

// Any invitation that Check takes makes a link that gives it back.
func TestLinkRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := func(label string) [32]byte {
			return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, label))
		}
		i := &member.Invitation{
			Group: secret("group"), Door: keys.NewSecret[keys.RoleDoor](secret("door")), Secret: keys.NewSecret[keys.RoleInviting](secret("invite")),
			Mode: member.ModeOpen, Channels: keys.NewSecret[keys.RoleChannels](secret("channels")), Role: rapid.SampledFrom([]uint8{member.RoleMember, member.RoleReader}).Draw(t, "role"),
			Expires: time.Unix(rapid.Int64Range(1, 253402300799).Draw(t, "expires"), 0).UTC(),
		}
		for n := range rapid.IntRange(1, member.MaxRelays).Draw(t, "relays") {
			l := member.LinkRelay{Key: keys.RelayPublic(fill(byte(n)))}
			if addrs := rapid.SliceOfN(rapid.StringMatching(`[!-~]{1,256}`), 0, member.MaxAddresses).Draw(t, "addrs"); len(addrs) > 0 {
				l.Addrs = addrs
			}
			i.Relays = append(i.Relays, l)
		}
		if err := i.Check(); err != nil {
			t.Fatal(err)
		}
		got, err := member.ParseLink(i.Link())
		if err != nil || !reflect.DeepEqual(got, i) {
			t.Fatalf("%v\n%+v\n%+v", err, got, i)
		}
	})
}

// The derivations of section 4, written out once more.
func TestDerivations(t *testing.T) {
	i := exampleInvitation()
	relay, other := relayKey(0x31), relayKey(0x30)
	epoch := keys.NewSecret[keys.RoleEpoch](fill(0xa1))
	owner := fill(0xb1)
	seeds := map[[32]byte]string{}
	same := func(name string, got, want [32]byte) {
		t.Helper()
		if got != want {
			t.Errorf("%s is not what section 4 says", name)
		}
		if seeds[got] != "" {
			t.Errorf("%s is the same as %s", name, seeds[got])
		}
		seeds[got] = name
	}
	invite, channels, epochKey := i.Secret.Expose(), i.Channels.Expose(), epoch.Expose()
	same("invite key", i.InviteKey().Seed(), specDerive(t, invite, "invite/key"))
	same("invite posting key", i.InvitePosting(relay).Seed(), specDerive(t, invite, "invite/posting", relay[:]))
	same("invite posting key of another relay", i.InvitePosting(other).Seed(), specDerive(t, invite, "invite/posting", other[:]))
	same("channel", i.Channel(relay), specDerive(t, channels, "channel", relay[:]))
	same("channel of another relay", member.ChannelID(&i.Channels, other), specDerive(t, channels, "channel", other[:]))
	same("posting key", member.PostingKey(&epoch, relay).Seed(), specDerive(t, epochKey, "posting", relay[:]))
	same("channel admin key", member.ChannelAdmin(owner, relay).Seed(), specDerive(t, owner[:], "channel/admin", relay[:]))
	same("owner key", member.OwnerKey(owner, relay, "genesis").Seed(), specDerive(t, owner[:], "board/owner", relay[:], []byte("genesis")))
	same("owner key of another entry", member.OwnerKey(owner, relay, "welcome").Seed(), specDerive(t, owner[:], "board/owner", relay[:], []byte("welcome")))
	if i.Channel(other) != wire.ChannelID(member.ChannelID(&i.Channels, other)) {
		t.Error("a link and a member do not find the same channel")
	}
}

func FuzzParseLink(f *testing.F) {
	link := exampleInvitation().Link()
	f.Add(link)
	f.Add("")
	f.Add("parallax:")
	f.Add(" Parallax:" + link[9:] + "\n")
	f.Add(link[:200])
	f.Add("parallax:AgAKbmV3AAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := member.ParseLink(s)
		if err != nil {
			if i != nil {
				t.Fatal("a value beside an error")
			}
			return
		}
		got := i.Link()
		dense := strings.Join(strings.Fields(s), "")
		if got[9:] != dense[9:] || !strings.EqualFold(got[:9], dense[:9]) {
			t.Fatalf("taken, but written as another link:\n%s\n%s", dense, got)
		}
	})
}

// The body of a link behind a check that holds: the fuzzer need not find it.
func FuzzLinkBody(f *testing.F) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(exampleInvitation().Link(), "parallax:"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[:len(raw)-4])
	f.Add(raw[:150])
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 3 || len(b) > 60_000 {
			return
		}
		link := relink(b)
		if i, err := member.ParseLink(link); err == nil && i.Link() != link {
			t.Fatalf("taken, but written as another link:\n%s\n%s", link, i.Link())
		}
	})
}
