package node

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/internal/store"
	"parallax/internal/store/sealed"
)

// A backup of a membership with sessions, chains and prekeys, made over the
// socket while it runs: none of their bytes are in it, and all that a restore
// needs is.
func TestBackupHoldsNoLiveState(t *testing.T) {
	p := newPair(t)
	if err := p.ann.Close(); err != nil {
		t.Fatal(err)
	}
	_, all := records(t, p.annDir)
	opt := p.opt
	opt.Serve = true
	long := connect(t, p.annDir, opt)
	over := connect(t, p.annDir, p.opt)
	if _, ok := over.(*remote); !ok {
		t.Fatalf("a %T, not the socket", over)
	}
	file := filepath.Join(t.TempDir(), "backup")
	v, err := over.Do(t.Context(), Request{Wish: CreateBackup{File: file, Passphrase: "one"}})
	if err != nil {
		t.Fatal(err)
	}
	made := v.(BackupInfo)
	if len(made.Groups) != 1 || made.Groups[0].Group != groupName || made.Groups[0].Name != annName || made.Groups[0].Members != 2 || made.Groups[0].Invites != 1 || made.Groups[0].Events < 3 || len(made.LeftOut) != 0 {
		t.Errorf("made %+v", made)
	}
	if err := long.Close(); err != nil {
		t.Fatal(err)
	}

	b, err := readBackup(file, "one")
	if err != nil || len(b.groups) != 1 {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	kinds := map[byte]int{}
	for _, kv := range b.groups[0].kvs {
		kinds[kv.Key[16]]++
		plain.Write(kv.Key)
		plain.WriteByte(0)
		plain.Write(kv.Value)
		plain.WriteByte(0)
	}
	// Seats are public, and 15 bytes of one beside any other are no secret either.
	inKey := func(w []byte) bool {
		return slices.ContainsFunc(all, func(kv store.KV) bool { return bytes.Contains(kv.Key, w[:12]) || bytes.Contains(kv.Key, w[4:]) })
	}
	windows := 0
	never := func(what string, secret []byte) {
		for i := 0; i+16 <= len(secret); i++ {
			w := secret[i : i+16]
			if len(bytes.Trim(w, "\x00")) < 12 || inKey(w) {
				continue
			}
			windows++
			for form, x := range map[string]string{"bytes": string(w), "hex": hex.EncodeToString(w)} {
				if strings.Contains(plain.String(), x) {
					t.Fatalf("%s: byte %d stands in the backup, as %s", what, i, form)
				}
			}
		}
		if text := base64.StdEncoding.EncodeToString(secret); strings.Contains(plain.String(), text) {
			t.Fatalf("%s stands in the backup, in base64", what)
		}
	}
	fields := 0
	for _, kv := range all {
		switch kv.Key[16] {
		case 's', 'v':
			never("record "+string(kv.Key[16]), kv.Value)
		case 'o': // digest, two times, prekey 32, ML-KEM seed 64
			never("prekey", kv.Value[48:80])
			never("ML-KEM seed", kv.Value[80:])
			fields++
		}
	}
	if windows < 200 || fields != 1 {
		t.Errorf("only %d stretches of live state were looked for: the test shows nothing", windows)
	}
	for kind, want := range map[byte]bool{'m': true, 'c': true, 'n': true, 'e': true, 'g': true, 'l': true, 's': false, 'v': false, 'r': true, 'a': true, 'o': false, 'h': false, 'b': false, 'q': false, 'p': false, 'w': false, 'f': false} {
		if (kinds[kind] > 0) != want {
			t.Errorf("%d records of kind %q in the backup", kinds[kind], kind)
		}
	}
	if !strings.Contains(plain.String(), someText) || !strings.Contains(plain.String(), `"Restored":true`) {
		t.Error("no history, or not marked as restored")
	}
	raw, err := os.ReadFile(file)
	if err != nil || bytes.Contains(raw, []byte("honey")) {
		t.Errorf("the file can be read (%v)", err)
	}

	// The restored records are those of the backup, sealed anew.
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(MemberConfig{Dir: dir}, file, "two"); !errors.Is(err, sealed.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made in vain: %v", err)
	}
	info, err := Restore(MemberConfig{Dir: dir}, file, "one")
	if err != nil || len(info.Groups) != 1 || info.Groups[0] != made.Groups[0] {
		t.Fatalf("restored %+v, %v", info, err)
	}
	if _, got := records(t, dir); !slices.EqualFunc(got, sorted(b.groups[0].kvs), func(a, b store.KV) bool { return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) }) {
		t.Errorf("%d records restored, not the %d of the backup", len(got), len(b.groups[0].kvs))
	}
	if hits := grep(t, dir, map[string]string{someText: "text", groupName: "group"}); len(hits) > 0 {
		t.Errorf("to be read after a restore: %q", hits)
	}
	if _, err := Restore(MemberConfig{Dir: dir}, file, "one"); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("restored twice: %v", err)
	}
}

func sorted(kvs []store.KV) []store.KV {
	return slices.SortedFunc(slices.Values(kvs), func(a, b store.KV) int { return bytes.Compare(a.Key, b.Key) })
}

// A restore that fails half-way leaves no group, and can be done again.
func TestRestoreAllOrNothing(t *testing.T) {
	p := newPair(t)
	file := filepath.Join(t.TempDir(), "backup")
	p.ann.do(CreateBackup{File: file, Passphrase: "one"})
	b, err := readBackup(file, "one")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	full := errors.New("no space left")
	cfg := MemberConfig{Dir: dir, Store: func(string) (store.Store, error) { return nil, full }}
	if _, err := Restore(cfg, file, "one"); !errors.Is(err, full) {
		t.Errorf("with a full disk: %v", err)
	}
	// As if it had crashed, too.
	if err := os.MkdirAll(filepath.Join(dir, restoringDir, "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	if units, err := unitsIn(filepath.Join(dir, groupsDir)); len(units) != 0 || err != nil {
		t.Errorf("%d groups, %v", len(units), err)
	}
	if _, err := Restore(MemberConfig{Dir: dir}, file, "one"); err != nil {
		t.Errorf("again: %v", err)
	}
	if units, err := unitsIn(filepath.Join(dir, groupsDir)); len(units) != 1 || units[0] != b.groups[0].unit || err != nil {
		t.Errorf("%d groups, %v", len(units), err)
	}
	if _, err := os.Stat(filepath.Join(dir, restoringDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a remnant: %v", err)
	}
	// A folder in use is left alone.
	m, err := OpenMember(MemberConfig{Dir: t.TempDir(), Open: openToyMember})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := Restore(MemberConfig{Dir: m.cfg.Dir}, file, "one"); !errors.Is(err, ErrLocked) {
		t.Errorf("into a folder in use: %v", err)
	}
}

// sample is a backup of known bytes.
func sample() *backup {
	u := store.Unit{1, 2}
	return &backup{made: time.Unix(1_800_000_000, 0), groups: []backupGroup{{unit: u, kvs: []store.KV{
		{Key: append(u[:], 'm'), Value: []byte("{}")}, {Key: append(u[:], 'e', 1), Value: nil},
	}}}}
}

func TestBackupGolden(t *testing.T) {
	var got bytes.Buffer
	if err := sample().encode(&got); err != nil {
		t.Fatal(err)
	}
	const want = "000000006b49d2000000000101020000000000000000000000000000" + "00000002" + "000000016d" + "000000027b7d" + "000000026501" + "00000000"
	if hex.EncodeToString(got.Bytes()) != want {
		t.Errorf("%x", got.Bytes())
	}
}

func FuzzParseBackup(f *testing.F) {
	var b bytes.Buffer
	if err := sample().encode(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:12])
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := parseBackup(raw)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := b.encode(&again); err != nil || !bytes.Equal(again.Bytes(), raw) {
			t.Errorf("%x was read and written as %x (%v)", raw, again.Bytes(), err)
		}
		if _, err := b.describe("f"); err == nil && len(b.groups) > 0 && len(raw) < 100 {
			t.Errorf("a membership without genesis was taken: %x", raw)
		}
	})
}
