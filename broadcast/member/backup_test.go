package member

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// Every field of the meta record is either kept in a backup or known to stay
// out: a new one fails here until somebody decided.
func TestMetaFieldsDecided(t *testing.T) {
	out := []string{"Asked", "Asking", "Change", "Door", "Founding", "Link", "PutBack", "Began", "Again", "Superseded", metaRestored}
	meta := reflect.TypeFor[metaRecord]()
	for i := range meta.NumField() {
		name := meta.Field(i).Name
		if slices.Contains(metaKept, name) == slices.Contains(out, name) {
			t.Errorf("field %s of the meta record: does a backup hold it?", name)
		}
	}
	for _, name := range metaKept {
		if _, ok := meta.FieldByName(name); !ok {
			t.Errorf("there is no field %s", name)
		}
	}
}

// stored is a membership laid down in a store, with everything a store may hold.
func stored(t *testing.T) (*Machine, *memory.Store) {
	t.Helper()
	m, s := laidDown(t, 4), memory.New()
	m.saveMeta()
	m.saveVector()
	for _, st := range m.sortedSeats() {
		m.saveSeat(st)
		if !st.own {
			m.saveSessions(st)
		}
	}
	for _, l := range m.sortedLog() {
		m.saveLogged(l)
	}
	for _, p := range m.paths {
		m.savePath(p)
	}
	m.saveMessage(m.sendBundle(KindText, []byte("on its way")))
	m.show(Event{Kind: EventMessage, Text: "history"})
	w := m.Ready().Write
	w.Base = 0
	if err := s.Apply([]store.Batch{*w})[0]; err != nil {
		t.Fatal(err)
	}
	return m, s
}

func TestBackup(t *testing.T) {
	m, s := stored(t)
	kvs, err := Backup(m.unit, s)
	if err != nil {
		t.Fatal(err)
	}
	info, err := CheckBackup(m.unit, kvs)
	if err != nil || info.Group != "Bench" || info.Name != "Ann" || info.Members != 4 || info.Events < 1 || info.ID != m.gid.String() {
		t.Errorf("%+v, %v", info, err)
	}
	var meta map[string]json.RawMessage
	for _, kv := range kvs {
		if kv.Key[16] == keyMeta {
			if err := json.Unmarshal(kv.Value, &meta); err != nil {
				t.Fatal(err)
			}
		}
	}
	if string(meta["Restored"]) != "true" || meta["Signing"] == nil || meta["Founding"] != nil {
		t.Errorf("meta has %d fields, Restored %s", len(meta), meta["Restored"])
	}

	// Not what no backup holds, nor another's, nor two of a kind that is one.
	all, _, err := s.Scan(m.unit[:], m.unit.End(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, kv := range all {
		_, err := CheckBackup(m.unit, append(slices.Clone(kvs), kv))
		if slices.ContainsFunc(kinds, func(k struct {
			kind         byte
			live, backup bool
		}) bool {
			return k.kind == kv.Key[16] && (!k.backup || k.kind == keyMeta)
		}) {
			refused++
			if !errors.Is(err, ErrStore) {
				t.Errorf("with a record %q: %v", kv.Key[16], err)
			}
		}
	}
	if refused < 8 {
		t.Errorf("only %d records were to be refused", refused)
	}
	if _, err := CheckBackup(store.Unit{9}, kvs); !errors.Is(err, ErrStore) {
		t.Errorf("of another unit: %v", err)
	}
	if _, err := CheckBackup(m.unit, nil); !errors.Is(err, ErrStore) {
		t.Errorf("of nothing: %v", err)
	}
}

// The machine opens what was restored: same seat, same people, same history, the
// relays as far as they were read, no session and no prekey.
func TestBackupOpens(t *testing.T) {
	m, s := stored(t)
	kvs, err := Backup(m.unit, s)
	if err != nil {
		t.Fatal(err)
	}
	b := store.Batch{Unit: m.unit}
	for _, kv := range kvs {
		b.Ops = append(b.Ops, store.Op{Key: kv.Key, Value: kv.Value})
	}
	fresh := memory.New()
	if err := fresh.Apply([]store.Batch{b})[0]; err != nil {
		t.Fatal(err)
	}
	opened, err := Open(Config{})(m.unit, fresh, benchEntropy{})
	if err != nil {
		t.Fatal(err)
	}
	r := opened.(*Machine)
	if r.self != m.self || r.gid != m.gid || len(r.seats) != 4 || r.counters.event != m.counters.event || len(r.chains.bytes) != 0 || len(r.bundles) != 0 {
		t.Errorf("opened with %d seats, event %d, %d bytes of chains, %d bundles", len(r.seats), r.counters.event, len(r.chains.bytes), len(r.bundles))
	}
	for _, st := range r.seats {
		if len(st.session.list) != 0 || !r.usable(st) {
			t.Errorf("seat %s: %d sessions, usable %v", st.seat.Short(), len(st.session.list), r.usable(st))
		}
	}
	for i, p := range r.paths {
		if p.position != m.paths[i].position || p.registered != m.paths[i].registered || p.listed != m.paths[i].listed || len(p.queue) != 0 {
			t.Errorf("path %s begins at %d with %d posts", p.label(), p.position, len(p.queue))
		}
	}
	if len(r.keyring.prekeys) != 0 || !r.meta.Restored {
		t.Errorf("%d prekeys, restored %v", len(r.keyring.prekeys), r.meta.Restored)
	}
}

func TestBackupNotReady(t *testing.T) {
	s := memory.New()
	if _, err := Backup(store.Unit{1}, s); !errors.Is(err, ErrNotReady) {
		t.Errorf("of nothing: %v", err)
	}
	u := store.Unit{1}
	b := store.Batch{Unit: u, Ops: []store.Op{{Key: append(u[:], keyMeta), Value: mustJSON(metaRecord{Phase: phaseJoining})}}}
	if err := s.Apply([]store.Batch{b})[0]; err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(u, s); !errors.Is(err, ErrNotReady) {
		t.Errorf("of a joining: %v", err)
	}
}
