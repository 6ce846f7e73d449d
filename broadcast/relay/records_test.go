package relay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func sample() (crossverify.Statement, []byte) {
	key := new(keys.RelayPrivate).FromSeed([32]byte{1})
	st := crossverify.SignStatement(key, wire.ChannelID{2}, wire.NewLineage(3, [8]byte{4}), 5, wire.Digest{6}, wire.Digest{7}, wire.Digest{8})
	return st, st.Append(nil)
}

// records are one of each kind: how it is written, and how it is read and
// written again.
func records() map[string]struct {
	bytes []byte
	again func([]byte) ([]byte, error)
	want  string // golden: first 8 bytes of the hash
} {
	st, _ := sample()
	m := meta{relay: st.Relay, channel: st.Channel, posting: keys.PostingPublic{10}, admins: []proto.Admin{{Key: keys.AdminPublic{9}, Rank: proto.RankOwner}}, creation: st, head: st,
		first: 4, before: wire.Digest{11}, firstTime: 12, kept: 13, boardRev: 14, mailboxRev: 15}
	m.creation.N = 1
	rotated := m
	rotated.rotation, rotated.rotated = 16, wire.Digest{17}
	rotated.admins = append([]proto.Admin{{Key: keys.AdminPublic{8}, Rank: proto.RankAdmin}}, m.admins...)
	bundle := &entry{kind: kindBundle, time: 1, st: st, hint: [8]byte{2}, nonce: [24]byte{3}, fanout: wire.Digest{4}, slots: wire.Digest{5},
		exceptions: broadcast.Exceptions{{Index: 1, Class: broadcast.Answering}}, envelope: []byte("envelope"), block: []byte("slots")}
	board := &entry{kind: kindBoard, time: 1, st: st, name: wire.Digest{2}, version: 3, value: []byte("value")}
	create := &entry{kind: kindGrant, time: 1, st: st}
	only := &entry{kind: kindDigest, time: 1, st: st, hint: [8]byte{2}, nonce: [24]byte{3}, envelope: bytes.Repeat([]byte{4}, broadcast.SealedDigestSize)}
	ent := func(b []byte) ([]byte, error) {
		e, err := parseEntry(b)
		if err != nil {
			return nil, err
		}
		return e.encode(), nil
	}
	sp := spine{time: 1, bytes: 2, post: wire.PostID{3}, h: wire.Digest{4}}
	be := boardEntry{version: 1, value: wire.Digest{2}, owner: keys.OwnerPublic{3}, bytes: 4, st: st}
	box := mailbox{key: keys.MailboxPublic{1}, birth: st, end: end{st.Lineage, 7}, seen: 2, position: 3}
	g := grant{uses: 1, perHour: 2, expires: 3, revoked: true, used: 4, hour: 5, hourUsed: 6}
	use := fanUse{last: 1, count: 2}
	return map[string]struct {
		bytes []byte
		again func([]byte) ([]byte, error)
		want  string
	}{
		"meta": {m.encode(), func(b []byte) ([]byte, error) {
			m, err := parseMeta(b)
			return m.encode(), err
		}, "9111a39b78d44d8f"},
		"meta, rotated": {rotated.encode(), func(b []byte) ([]byte, error) {
			m, err := parseMeta(b)
			return m.encode(), err
		}, "05ce7b09ab716105"},
		"bundle": {bundle.encode(), ent, "3c5d06b92bc36a56"},
		"board":  {board.encode(), ent, "1975289b111b750f"},
		"digest": {only.encode(), ent, "b97f593b148007f0"},
		"create": {create.encode(), ent, "81c23c3ec2fe2069"},
		"spine": {sp.encode(), func(b []byte) ([]byte, error) {
			s, err := parseSpine(b)
			return s.encode(), err
		}, "09742c09f97fc70c"},
		"boardEntry": {be.encode(), func(b []byte) ([]byte, error) {
			e, err := parseBoardEntry(b)
			if err != nil {
				return nil, err
			}
			return e.encode(), nil
		}, "912bd597dc6ce9a4"},
		"value": {encodeValue(7, []byte("sealed")), func(b []byte) ([]byte, error) {
			v, value, err := parseValue(b)
			return encodeValue(v, value), err
		}, "690842eb7abc1ede"},
		"list": {encodeList([]wire.MailboxID{{1}, {2}}), func(b []byte) ([]byte, error) {
			l, err := parseList(b)
			return encodeList(l), err
		}, "61967fb1664b101e"},
		"fanUse": {use.encode(), func(b []byte) ([]byte, error) {
			u, err := parseFanUse(b)
			return u.encode(), err
		}, "d103256a17477817"},
		"mailbox": {box.encode(), func(b []byte) ([]byte, error) {
			m, err := parseMailbox(b)
			if err != nil {
				return nil, err
			}
			return m.encode(), nil
		}, "66b3fee96f32246d"},
		"hint": {box.encodeHint(), func(b []byte) ([]byte, error) {
			var m mailbox
			err := m.parseHint(b)
			return m.encodeHint(), err
		}, "49a97cbe542bd84f"},
		"grant": {g.encode(), func(b []byte) ([]byte, error) {
			g, err := parseGrant(b)
			if err != nil {
				return nil, err
			}
			return g.encode(), nil
		}, "a52b4871f95f81d1"},
	}
}

// What lies in the store is pinned: a change of layout is a change of format.
func TestRecordGoldens(t *testing.T) {
	for name, r := range records() {
		h := wire.Hash("golden", r.bytes)
		if got := hex.EncodeToString(h[:8]); got != r.want {
			t.Errorf("%s: golden %s, want %s (%d bytes)", name, got, r.want, len(r.bytes))
		}
		again, err := r.again(r.bytes)
		if err != nil || !bytes.Equal(again, r.bytes) {
			t.Errorf("%s: read and written again: %x, %v", name, again, err)
		}
		if _, err := r.again(append(bytes.Clone(r.bytes), 0)); err == nil && name != "value" {
			t.Errorf("%s: a trailing byte is accepted", name)
		}
		if _, err := r.again(r.bytes[:len(r.bytes)-1]); err == nil && name != "value" {
			t.Errorf("%s: a missing byte is accepted", name)
		}
	}
	if got := hex.EncodeToString(key(Unit(wire.ChannelID{1}), keyLog, []byte{2})); got != "c6a62d1fa575b7060ca0437d453a1e5d6c02" {
		t.Errorf("key %s", got)
	}
	m := records()["meta"].bytes
	m[0] = formatVersion + 1
	if _, err := parseMeta(m); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "format 4") {
		t.Errorf("a newer format: %v", err)
	}
	m = records()["meta"].bytes
	m[len(m)-1] = 1
	if _, err := parseMeta(m); !errors.Is(err, ErrCorrupt) {
		t.Errorf("rotated, with ordinal 0: %v", err)
	}
}

func FuzzRecords(f *testing.F) {
	all := records()
	for _, r := range all {
		f.Add(r.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, r := range all {
			if again, err := r.again(b); err == nil && !bytes.Equal(again, b) {
				t.Errorf("%s: %x was read and is written as %x", name, b, again)
			}
		}
	})
}

// A relay cannot open a slot: no file it is built from imports ratchet.
func TestNeverReachesRatchet(t *testing.T) {
	seen := map[string]bool{}
	var walk func(dir string)
	walk = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files: %v", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, im := range parsed.Imports {
				path := strings.Trim(im.Path.Value, `"`)
				switch path {
				case "parallax/ratchet", "parallax/broadcast/member":
					t.Errorf("%s imports %s", file, path)
				case "os", "net", "sync", "context", "log", "crypto/rand", "math/rand", "runtime", "unsafe":
					t.Errorf("%s imports %s, a machine has none of it", file, path)
				}
				if dir, ok := strings.CutPrefix(path, "parallax/"); ok {
					walk(dir)
				}
			}
		}
	}
	walk("broadcast/relay")
	if len(seen) < 5 || !seen["broadcast/proto"] {
		t.Errorf("walked %v", reflect.ValueOf(seen).MapKeys())
	}
}
