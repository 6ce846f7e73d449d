package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/sealed"
	"parallax/node"
)

func TestExitCode(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("somewhere: %w", err) }
	cases := []struct {
		err  error
		want int
	}{
		{nil, OK},
		{errors.New("surprise"), Unexpected},
		{Errorf(Partial, "half of it: %w", member.ErrUnreached), Partial},
		{wrap(member.ErrLinkCut), Usage},
		{wrap(member.ErrNoSuch), Usage},
		{wrap(node.ErrNoGroup), Usage},
		{wrap(member.ErrContested), Contested},
		{wrap(member.ErrCodeDiffers), Contested},
		{wrap(member.ErrCodeForm), Usage},
		{wrap(member.ErrCodeKind), Usage},
		{wrap(member.ErrExpired), Quota},
		{wrap(member.ErrUnreached), Network},
		{wrap(node.ErrPortInUse), Network},
		{wrap(node.ErrLocked), Network},
		{wrap(&fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}), Network},
		{wrap(syscall.ENOSPC), Network},
		{wrap(context.DeadlineExceeded), Network},
		{wrap(context.Canceled), Unexpected},
		{wrap(crossverify.ErrNoContradiction), Assertion},
		{wrap(crossverify.ErrEvidenceFormat), Data},
		{&node.UnitError{Op: "open", Err: &store.CorruptError{Path: "f", Err: errors.New("bad")}}, Data},
		{wrap(&store.FormatError{Path: "d"}), Data},
		{wrap(node.ErrBackup), Data},
		{wrap(node.ErrNotEmpty), Usage},
		{wrap(sealed.ErrPassphrase), Usage},
		{wrap(sealed.ErrNoPassphrase), Usage},
		{errors.Join(member.ErrUnreached, fs.ErrClosed), Network},
	}
	for _, c := range cases {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("ExitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
	for _, row := range proto.Codes() {
		if got := ExitCode(wrap(&proto.Refusal{Code: row.Code})); got != row.Exit {
			t.Errorf("refusal %q: exit code %d, the table says %d", row.Name, got, row.Exit)
		}
	}
}

func TestLine(t *testing.T) {
	err := errors.Join(errors.New("one\n"), errors.New("two\x1b[31m"))
	if got, want := Line(err), "one; two\ufffd[31m"; got != want {
		t.Errorf("Line = %q, want %q", got, want)
	}
}

func TestClean(t *testing.T) {
	if got, want := Clean("a\nb\tc\x1b]0;x\x07\u202e\u2066d"), "a b c\ufffd]0;x\ufffd\ufffd\ufffdd"; got != want {
		t.Errorf("Clean = %q, want %q", got, want)
	}
	if got, want := CleanLines("a\r\nb\nc", "  "), "a\n  b\n  c"; got != want {
		t.Errorf("CleanLines = %q, want %q", got, want)
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]time.Duration{"7d": 7 * day, "2w": 14 * day, "90m": 90 * time.Minute, "1h30m": 90 * time.Minute, "0s": 0} {
		var d Duration
		if err := d.Set(text); err != nil || time.Duration(d) != want {
			t.Errorf("%q is %v, %v; want %v", text, time.Duration(d), err, want)
		}
		var again Duration
		if err := again.Set(d.String()); err != nil || again != d {
			t.Errorf("%q printed as %q, read back as %v, %v", text, d, again, err)
		}
	}
	for text, want := range map[string]Size{"1 GiB": 1 << 30, "64KiB": 64 << 10, "4096": 4096, "0": 0, "3 TiB": 3 << 40} {
		var z Size
		if err := z.UnmarshalText([]byte(text)); err != nil || z != want {
			t.Errorf("%q is %d, %v; want %d", text, z, err, want)
		}
		var again Size
		if err := again.UnmarshalText([]byte(z.String())); err != nil || again != z {
			t.Errorf("%q printed as %q, read back as %d, %v", text, z, again, err)
		}
	}
	for _, text := range []string{"", "7", "-1s", "d", "99999999999d", "1 d"} {
		if err := new(Duration).Set(text); err == nil {
			t.Errorf("%q was taken for a length of time", text)
		}
	}
	for _, text := range []string{"", "1 GB", "-1", "1.5 MiB", "99999999 TiB"} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken for a size", text)
		}
	}
}

func testKey(b byte) keys.RelayPublic {
	k := keys.NewPrivate[keys.RoleRelay]([32]byte{b})
	return k.Public()
}

func TestRelayAddress(t *testing.T) {
	a, err := RelayAddress(testKey(1), []string{"/ip4/192.0.2.1/udp/4801/quic-v1", "/dns/r.example/tcp/4801"}, "tok-1")
	if err != nil {
		t.Fatal(err)
	}
	b, err := RelayAddress(testKey(2), []string{"/ip6/2001:db8::1/tcp/1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, lists := range [][]string{{a + "," + b}, {a, b}, {" " + a + " ,\n" + b + ","}} {
		spots, err := ParseRelays(lists...)
		if err != nil {
			t.Fatal(err)
		}
		if len(spots) != 2 || spots[0].Key != testKey(1) || spots[1].Key != testKey(2) || spots[0].Token != "tok-1" || spots[1].Token != "" ||
			strings.Join(spots[0].Addrs, " ") != "/ip4/192.0.2.1/udp/4801/quic-v1 /dns/r.example/tcp/4801" || spots[1].Addrs[0] != "/ip6/2001:db8::1/tcp/1" {
			t.Errorf("ParseRelays(%q) = %+v", lists, spots)
		}
	}
	id, err := PeerID(testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                               "no relay address",
		"/ip4/1.2.3.4/tcp/1":             "must end with /p2p/",
		"/ip4/1.2.3.4/tcp/1/p2p/12D3Koo": "is not a peer id",
		"/ip4/1.2.3.4/tcp/1/p2p/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG":                     "not an Ed25519 key",
		"/ip4/1.2.3.4/tcp/1/p2p/16Uiu2HAmKCnj7bXK1MK9NQezwQsH4Ngm6mgGVGm7bqd9RcXEnWyk":              "not",
		"/ip4/1.2.3.4/udp/1/p2p/" + id.String():                                                     "not an address of the form",
		"/ip4/1.2.3.4/tcp/1/ws/p2p/" + id.String():                                                  "not an address of the form",
		"/ip4/1.2.3.4/tcp/1/p2p/" + id.String() + "#":                                               "a token is",
		"/ip4/1.2.3.4/tcp/1/p2p/" + id.String() + "#a b":                                            "a token is",
		"/ip4/1.2.3.4/tcp/1/p2p/" + id.String() + "#a,/ip4/1.2.3.4/tcp/2/p2p/" + id.String() + "#b": "another token",
		"192.0.2.1:4801":      "not an address of the form",
		"/p2p/" + id.String(): "not an address of the form",
	} {
		_, err := ParseRelays(text)
		if err == nil || !strings.Contains(err.Error(), want) || ExitCode(err) != Usage {
			t.Errorf("ParseRelays(%q): %v (exit %d), want %q", text, err, ExitCode(err), want)
		}
	}
}

// A parsed address, written and parsed again, is the same.
func FuzzParseRelays(f *testing.F) {
	a, err := RelayAddress(testKey(1), []string{"/ip4/192.0.2.1/udp/4801/quic-v1", "/dns/r.example/tcp/4801"}, "tok-1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a)
	f.Add(strings.ReplaceAll(a, "#tok-1", "") + ",,")
	f.Add("/ip4/1.2.3.4/tcp/1/p2p/12D3Koo#x")
	f.Fuzz(func(t *testing.T, text string) {
		spots, err := ParseRelays(text)
		if err != nil {
			return
		}
		var parts []string
		for _, s := range spots {
			p, err := RelayAddress(s.Key, s.Addrs, s.Token)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p)
		}
		again, err := ParseRelays(parts...)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(spots) {
			t.Fatalf("%q was read as %+v, written and read as %+v, %v", text, spots, again, err)
		}
	})
}

func TestReachable(t *testing.T) {
	got := Reachable([]string{"/ip4/127.0.0.1/tcp/7", "/ip4/0.0.0.0/udp/4801/quic-v1"})
	if len(got) != 2 || got[0] != "/ip4/127.0.0.1/tcp/7" || strings.Contains(got[1], "/0.0.0.0/") || !strings.HasSuffix(got[1], "/udp/4801/quic-v1") {
		t.Errorf("Reachable = %q", got)
	}
}

func TestTOML(t *testing.T) {
	type config struct {
		Listen []string `toml:"listen"`
		Limits struct {
			Retention Duration `toml:"retention"`
			Posts     int      `toml:"posts_per_minute"`
		} `toml:"limits"`
	}
	var good config
	if err := decodeTOML("c", "listen=['a']\n[limits]\nretention='7d' # week\nposts_per_minute=3\n", &good); err != nil || time.Duration(good.Limits.Retention) != 7*day || good.Limits.Posts != 3 {
		t.Errorf("%+v, %v", good, err)
	}
	for text, want := range map[string]string{
		"# c\n\nlisen = []\n":             `c:3: there is no key "lisen"; did you mean "listen"?`,
		"[limits]\n\nposts_per_minut = 1": `c:3: there is no key "limits.posts_per_minut"; did you mean "limits.posts_per_minute"?`,
		"retention = '1d'\n":              `c:1: there is no key "retention"; did you mean "limits.retention"?`,
		"\n[limit]\nx=1\n":                `c:2: there is no key "limit"; did you mean "limits"?`,
		"[zzz]\n":                         `c:1: there is no key "zzz"`,
		"\n[limits]\nretention='soon'\n":  `c:3: limits.retention: "soon" is not a length of time`,
		"listen = 3\n":                    `c:1: listen:`,
		"listen = [\n":                    `c:1: listen: unexpected EOF`,
	} {
		err := decodeTOML("c", text, new(config))
		if err == nil || !strings.HasPrefix(Line(err), want) || ExitCode(err) != Usage {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.key")
	seed := [keys.SeedSize]byte{1, 2, 3}
	if err := WriteKey(path, "relay", seed); err != nil {
		t.Fatal(err)
	}
	if err := WriteKey(path, "relay", seed); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	if got, err := ReadKey(path, "relay"); err != nil || got != seed {
		t.Errorf("read back %x, %v", got, err)
	}
	if _, err := ReadKey(path, "operator"); !errors.Is(err, ErrKeyFile) {
		t.Errorf("taken for another role's: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path, "relay"); !errors.Is(err, ErrKeyMode) {
		t.Errorf("readable by others: %v", err)
	}
	raw := fmt.Sprintf("parallax relay key 1\n%x\n", seed)
	for _, bad := range []string{"", raw[:len(raw)-3], raw + "00", strings.Replace(raw, "01", "zz", 1), "x" + raw} {
		bent := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(bent, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadKey(bent, "relay"); !errors.Is(err, ErrKeyFile) || got != [keys.SeedSize]byte{} {
			t.Errorf("%q was read as %x, %v", bad, got, err)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	s := &Streams{Out: &b}
	s.Table(&b, []string{"name", "R1", "text"}, [][]Cell{Cells("Ann", "✓", "x"), {{Text: "Zoë-Maria", Color: Red}, {Text: "·"}, {}}})
	if want := "name       R1  text\nAnn        ✓   x\nZoë-Maria  ·\n"; b.String() != want {
		t.Errorf("table\n%swant\n%s", b.String(), want)
	}
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		args     string
		code     int
		out, err string
	}{
		{"version", OK, "prog development (protocol 1", ""},
		{"version --json", OK, `{"program":"prog","version":"development"`, ""},
		{"vresion", Usage, "", "prog: there is no command \"prog vresion\"; did you mean `prog version`?\n"},
		{"zzzzzz", Usage, "", "prog: there is no command \"prog zzzzzz\"; `prog --help` lists the commands\n"},
		{"version --nope", Usage, "", "prog: unknown flag: --nope\n"},
		{"version x", Usage, "", "prog: `prog version` takes no arguments; 1 argument was given\n"},
		{"fail", Network, "", "prog: the relays could not be reached: R1\n"},
		{"fail --json", Network, "", `{"error":{"code":3,"text":"the relays could not be reached: R1"}}` + "\n"},
		{"sub zap", Usage, "", "prog: there is no command \"prog sub zap\"; `prog sub --help` lists the commands\n"},
		{"sub", OK, "Usage:", ""},
		{"", OK, "Usage:", ""},
	} {
		var out, talk strings.Builder
		s := &Streams{In: strings.NewReader(""), Out: &out, Err: &talk}
		root := &cobra.Command{Use: "prog"}
		Root(root, s)
		sub := &cobra.Command{Use: "sub"}
		Parent(sub)
		sub.AddCommand(&cobra.Command{Use: "one", RunE: func(*cobra.Command, []string) error { return nil }})
		root.AddCommand(sub, &cobra.Command{Use: "fail", RunE: func(*cobra.Command, []string) error { return fmt.Errorf("%w: R1", member.ErrUnreached) }})
		code := Run(root, s, strings.Fields(c.args))
		if code != c.code || talk.String() != c.err || !strings.Contains(out.String(), c.out) {
			t.Errorf("%q: exit %d\nstdout %q\nstderr %q\nwant %d, %q, %q", c.args, code, out.String(), talk.String(), c.code, c.out, c.err)
		}
	}
}
