package node

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/pebble"
	"parallax/internal/store/sealed"
)

// pair is two real members of one group, on one relay, with a session.
type pair struct {
	annDir   string
	ann, ben *person
	opt      Options
}

const (
	annName   = "Annabella Underwood"
	groupName = "Bees of the walled garden"
	someText  = "the honey is under the third hive from the left"
)

func newPair(t *testing.T) *pair {
	s := openPebble(t, filepath.Join(t.TempDir(), "relay"))
	r := startRelay(t, RelayConfig{Key: relayKey(1), Listen: []string{ways["tcp"]}, Store: s, Open: channels(1), Retry: time.Millisecond})
	t.Cleanup(func() { closeRelay(t, r); _ = s.Close() })
	p := &pair{annDir: filepath.Join(t.TempDir(), "ann"), opt: Options{MemberConfig: MemberConfig{backupWork: 10,
		Open:    member.Open(member.Config{Limits: member.Limits{HelloWait: 100 * time.Millisecond, ExchangeJitter: time.Millisecond}}),
		Dialing: Dialing{First: 5 * time.Millisecond, Most: 50 * time.Millisecond},
	}}}
	p.ann = &person{t, connect(t, p.annDir, p.opt), annName}
	p.ann.do(member.CreateGroup{Group: groupName, Name: annName, Deadline: 2 * time.Second,
		Relays: []member.FoundingSpot{{Key: relayKey(1).Public(), Addrs: r.Addrs(), Token: "sesame"}}})
	invite := p.ann.do(member.MakeInvite{}).(member.InviteInfo)
	p.ben = &person{t, connect(t, filepath.Join(t.TempDir(), "ben"), p.opt), "Benjamin"}
	p.ben.do(member.JoinGroup{Link: invite.Link, Name: "Benjamin"})
	allSessions(t, p.ann)
	allSessions(t, p.ben)
	p.ann.do(member.SendText{Text: someText, Wait: member.WaitAll})
	p.ben.hears(someText)
	p.ben.do(member.SendText{Text: "and " + someText})
	p.ann.hears("and " + someText)
	return p
}

// records opens the only membership of a closed folder and reads all of it.
func records(t *testing.T, dir string) (unit store.Unit, kvs []store.KV) {
	t.Helper()
	cfg := MemberConfig{Dir: dir, Wall: time.Now, Store: func(d string) (store.Store, error) { return pebble.Open(d, pebble.Options{}) }}
	key, err := folderKey(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	units, err := unitsIn(filepath.Join(dir, groupsDir))
	if err != nil || len(units) != 1 {
		t.Fatalf("%d memberships, %v", len(units), err)
	}
	s, err := openSealed(&cfg, key, filepath.Join(dir, groupsDir, fmt.Sprintf("%x", units[0][:])))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kvs, more, err := s.Scan(units[0][:], units[0].End(), 1<<30)
	if err != nil || more {
		t.Fatal(more, err)
	}
	return units[0], kvs
}

// secretsOf are bytes that nobody shall find: of sessions and chains every
// stretch of 16, of records of JSON every string and every key, texts, names.
func secretsOf(t *testing.T, kvs []store.KV) map[string]string {
	t.Helper()
	found := map[string]string{groupName: "group name", annName: "name", "Benjamin": "name", someText: "text", base64.StdEncoding.EncodeToString([]byte(someText)): "text"}
	kinds := map[byte]int{}
	inKey := func(w []byte) bool { // seats and transcripts are keys of records too, which are not hidden
		return slices.ContainsFunc(kvs, func(kv store.KV) bool { return bytes.Contains(kv.Key, w) })
	}
	for _, kv := range kvs {
		kind := kv.Key[16]
		kinds[kind]++
		switch kind {
		case 's', 'v':
			for i := 0; i+16 <= len(kv.Value); i += 8 {
				if w := kv.Value[i : i+16]; len(bytes.Trim(w, "\x00")) > 12 && !inKey(w) {
					found[string(w)] = fmt.Sprintf("record %q", kind)
				}
			}
		case 'm':
			var meta map[string]any
			if err := json.Unmarshal(kv.Value, &meta); err != nil {
				t.Fatal(err)
			}
			for field, v := range meta {
				if s, ok := v.(string); ok && len(s) >= 24 {
					found[s] = field
					if raw, err := base64.StdEncoding.DecodeString(s); err == nil {
						found[string(raw[:min(len(raw), 32)])] = field
					}
				}
			}
		}
	}
	if kinds['s'] == 0 || kinds['v'] != 1 || kinds['m'] != 1 || len(found) < 20 {
		t.Fatalf("only %d secrets in kinds %v: the test shows nothing", len(found), kinds)
	}
	return found
}

// grep tells which secrets stand in the files of a folder.
func grep(t *testing.T, dir string, secrets map[string]string) (hits []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		for s, what := range secrets {
			if bytes.Contains(raw, []byte(s)) {
				hits = append(hits, fmt.Sprintf("%s in %s", what, path))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

// Of a real membership nothing is to be read in its folder; in a store that is
// not sealed the same search finds it.
func TestNothingReadableAtRest(t *testing.T) {
	p := newPair(t)
	if err := p.ann.Close(); err != nil {
		t.Fatal(err)
	}
	unit, kvs := records(t, p.annDir)
	secrets := secretsOf(t, kvs)
	if hits := grep(t, p.annDir, secrets); len(hits) > 0 {
		t.Errorf("to be read in the folder: %q", hits)
	}
	for _, name := range []string{keysFile, filepath.Join(groupsDir, fmt.Sprintf("%x", unit[:]), stateKeyFile)} {
		if i, err := os.Stat(filepath.Join(p.annDir, name)); err != nil || i.Mode() != 0o600 {
			t.Errorf("%s has mode %v (%v)", name, i.Mode(), err)
		}
	}

	bare := t.TempDir()
	s := openPebble(t, bare)
	b := store.Batch{Unit: unit}
	for _, kv := range kvs {
		b.Ops = append(b.Ops, store.Op{Key: kv.Key, Value: kv.Value})
	}
	if err := errors.Join(s.Apply([]store.Batch{b})[0], s.Close()); err != nil {
		t.Fatal(err)
	}
	if hits := grep(t, bare, secrets); len(hits) < len(secrets)*3/4 {
		t.Errorf("only %d of %d secrets found where they can be read: the search is broken", len(hits), len(secrets))
	}
}

// A day later the sessions of the day before cannot be read any more from what
// the engine may still hold of them, though all keys of the folder are there.
func TestYesterdayIsGone(t *testing.T) {
	p := newPair(t)
	if err := p.ann.Close(); err != nil {
		t.Fatal(err)
	}
	unit, before := records(t, p.annDir)
	group := filepath.Join(p.annDir, groupsDir, fmt.Sprintf("%x", unit[:]))
	copied := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(group, storeDir))); err != nil {
		t.Fatal(err)
	}
	p.opt.Wall = func() time.Time { return time.Now().Add(sealed.RotateAfter) }
	p.ann = &person{t, connect(t, p.annDir, p.opt), annName}
	p.ann.do(member.SendText{Text: "a day later"})
	p.ben.hears("a day later") // sessions go on
	if err := p.ann.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.RemoveAll(filepath.Join(group, storeDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(group, storeDir), os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
	cfg := MemberConfig{Dir: p.annDir, Wall: time.Now, Store: func(d string) (store.Store, error) { return pebble.Open(d, pebble.Options{}) }}
	key, err := folderKey(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSealed(&cfg, key, group)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	live := 0
	for _, kv := range before {
		v, err := s.Get(kv.Key)
		d, damaged := errors.AsType[*store.CorruptError](err)
		switch {
		case !slices.Contains(member.LiveKinds(), kv.Key[16]):
			if err != nil || !bytes.Equal(v, kv.Value) {
				t.Errorf("record %x: %v", kv.Key[16:], err)
			}
		case !damaged || !strings.Contains(err.Error(), "which is gone") || !strings.Contains(d.Path, group):
			t.Errorf("yesterday's record %q: %d bytes, %v", kv.Key[16], len(v), err)
		default:
			live++
		}
	}
	if live < 3 {
		t.Errorf("only %d records of live state", live)
	}
}

// A node that runs for days replaces the state key, and its machines notice
// nothing: no write is refused, no link ends.
func TestRotateWhileRunning(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().Unix())
	m, err := OpenMember(MemberConfig{Dir: t.TempDir(), Open: openToyMember, Wall: func() time.Time { return time.Unix(now.Load(), 0) }})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	create(t, m, "bees")
	ms := m.open()[0]
	file := filepath.Join(ms.dir, stateKeyFile)
	read := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	one := len(read()) // with one key; two stand in it until everything is sealed anew
	m.wg.Go(func() { m.rotateAll(time.Millisecond) })
	for range 3 {
		was := read()
		for deadline := time.Now().Add(time.Minute); len(was) > one; was = read() {
			if time.Now().After(deadline) {
				t.Fatal("the former key stays")
			}
			time.Sleep(time.Millisecond)
		}
		if err := say(m, "bees", "hello"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		if read() != was {
			t.Error("rotated before its time")
		}
		now.Add(int64(sealed.RotateAfter / time.Second))
		for deadline := time.Now().Add(5 * time.Second); read() == was; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("not rotated in time")
			}
		}
	}
	if err := say(m, "bees", "hello"); err != nil {
		t.Error(err)
	}
	if g := m.Groups(); len(g) != 1 || g[0].Err != nil {
		t.Errorf("groups %+v", g)
	}
}

func TestPassphrase(t *testing.T) {
	dir := t.TempDir()
	asked := 0
	with := func(p string) MemberConfig {
		return MemberConfig{Dir: dir, Open: openToyMember, Cost: sealed.Cost{Memory: 64, Passes: 1, Lanes: 1}, Passphrase: func(bool) ([]byte, error) {
			asked++
			return []byte(p), nil
		}}
	}
	opens := func(cfg MemberConfig, want error, wantAsked int) {
		t.Helper()
		asked = 0
		m, err := OpenMember(cfg)
		if !errors.Is(err, want) || asked != wantAsked {
			t.Errorf("%v, asked %d times; want %v, %d", err, asked, want, wantAsked)
		}
		if m != nil {
			if g := m.Groups(); len(g) != 1 || g[0].Err != nil {
				t.Errorf("groups %+v", g)
			}
			if err := SetPassphrase(with("x"), nil); !errors.Is(err, ErrLocked) {
				t.Errorf("the passphrase of a folder in use: %v", err)
			}
			_ = m.Close()
		}
	}
	none := MemberConfig{Dir: dir, Open: openToyMember}
	m, err := OpenMember(with("one")) // a new folder
	if err != nil {
		t.Fatal(err)
	}
	create(t, m, "bees")
	_ = m.Close()
	opens(with("one"), nil, 1)
	opens(with("two"), sealed.ErrPassphrase, 1)
	opens(none, sealed.ErrNoPassphrase, 0)
	if err := SetPassphrase(with("two"), []byte("three")); !errors.Is(err, sealed.ErrPassphrase) {
		t.Errorf("changed with a wrong one: %v", err)
	}
	if err := SetPassphrase(with("one"), []byte("three")); err != nil {
		t.Error(err)
	}
	opens(with("one"), sealed.ErrPassphrase, 1)
	opens(with("three"), nil, 1)
	if err := SetPassphrase(with("three"), nil); err != nil {
		t.Error(err)
	}
	opens(with("never asked"), nil, 0)
	opens(none, nil, 0)
	if made, err := InitFolder(with("four")); made || err != nil {
		t.Errorf("init of a folder with keys: %v, %v", made, err)
	}
	opens(none, nil, 0)

	// Without its keys a folder is not begun anew, nor without its state key a
	// membership.
	path := filepath.Join(dir, keysFile)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	var damaged *store.CorruptError
	if _, err := OpenMember(none); !errors.As(err, &damaged) || damaged.Path != path {
		t.Errorf("without keys: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, groupsDir, "*", stateKeyFile))
	if err != nil || len(files) != 1 || os.Remove(files[0]) != nil {
		t.Fatal(files, err)
	}
	if m, err = OpenMember(none); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if g := m.Groups(); len(g) != 1 || !errors.As(g[0].Err, &damaged) || damaged.Path != files[0] {
		t.Errorf("without a state key: %+v", g)
	}
}
