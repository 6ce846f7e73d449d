package member

import (
	"encoding/json"
	"errors"
	"fmt"

	"parallax/internal/store"
	"parallax/internal/wire"
)

// metaKept are the fields of the meta record that a backup holds. Whatever else
// stands in it is left out: what only a founding or a joining under way needs.
var metaKept = []string{
	"Format", "Phase", "Group", "Name", "Genesis", "Signing", "Identity", "Owner",
	"Invite", "Channels", "Epochs", "InUse", "Welcomed", "WelcomeOf", "Governed", "Taught", "Incarnation", "Relays", "Lists", "Spares", "SparesTried", "Announced", "Admitted", "Joined",
}

// metaRestored is the field that tells the machine, when it opens what was
// restored, to draw a new incarnation and new prekeys and to announce them.
const metaRestored = "Restored"

// Backup reads what a backup of a membership holds: the records of the kinds
// that the table of atrest.go allows, the meta record marked as restored. Live
// ratchet state, prekeys, the outbox and held copies are not among them: sessions
// are agreed anew, and the relays are read on from where the backup was made. Errors: ErrNotReady for a membership that is not founded
// or joined yet, ErrStore, what the reader says.
func Backup(unit store.Unit, r store.Reader) (kvs []store.KV, err error) {
	for _, k := range kinds {
		if !k.backup {
			continue
		}
		from, to := append(unit[:], k.kind), append(unit[:], k.kind+1)
		for more := true; more; {
			var page []store.KV
			if page, more, err = r.Scan(from, to, 1<<20); err != nil {
				return nil, err
			}
			for _, kv := range page {
				if k.kind == keyMeta {
					if kv.Value, err = backupMeta(kv.Value); err != nil {
						return nil, err
					}
				}
				kvs = append(kvs, kv)
				from = append(append(from[:0:0], kv.Key...), 0)
			}
		}
		if k.kind == keyMeta && len(kvs) == 0 {
			return nil, ErrNotReady
		}
	}
	return kvs, nil
}

// backupMeta is the meta record as a backup holds it.
func backupMeta(raw []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("%w: meta: %w", ErrStore, err)
	}
	kept := map[string]json.RawMessage{metaRestored: json.RawMessage("true")}
	for _, name := range metaKept {
		if v, ok := all[name]; ok {
			kept[name] = v
		}
	}
	var phase string
	if err := json.Unmarshal(kept["Phase"], &phase); err != nil {
		return nil, fmt.Errorf("%w: meta: %w", ErrStore, err)
	}
	if phase != phaseMember {
		return nil, ErrNotReady
	}
	return mustJSON(kept), nil
}

// BackupInfo says what a backup holds of one membership.
type BackupInfo struct {
	Unit     string `json:"unit"`
	Group    string `json:"group"`
	ID       string `json:"id"`
	Name     string `json:"name"` // of the member
	Members  int    `json:"members"`
	Epochs   int    `json:"epochs"`
	Events   int    `json:"events"`
	Invites  int    `json:"invites"`
	Evidence int    `json:"evidence"`
}

var errKind = errors.New("a record that no backup holds")

// CheckBackup tells what a backup holds of a membership, and refuses one with a
// record that Backup would not have put there. Errors: ErrStore,
// *store.FormatError.
func CheckBackup(unit store.Unit, kvs []store.KV) (info BackupInfo, err error) {
	count, invites := map[byte]int{}, 0
	var meta metaRecord
	for _, kv := range kvs {
		kind, err := backupKind(unit, kv.Key)
		if err != nil {
			return info, fmt.Errorf("%w: %w: %x", ErrStore, err, kv.Key)
		}
		if kind == keyLog && len(kv.Value) > loggedHead {
			if op, err := ParseOperation(kv.Value[loggedHead:]); err == nil && op.Body.kind() == opInvite {
				invites++
			}
		}
		if count[kind]++; kind != keyMeta {
			continue
		}
		again, err := backupMeta(kv.Value)
		if err != nil {
			return info, err
		}
		if string(again) != string(kv.Value) {
			return info, fmt.Errorf("%w: meta: %w", ErrStore, errKind)
		}
		if err := json.Unmarshal(kv.Value, &meta); err != nil {
			return info, fmt.Errorf("%w: meta: %w", ErrStore, err)
		}
	}
	if count[keyMeta] == 1 && meta.Format != StoreFormat {
		return info, &store.FormatError{Path: "membership", Of: "membership", Found: uint64(meta.Format), Supported: StoreFormat}
	}
	genesis, err := ParseGenesis(meta.Genesis)
	if err != nil || count[keyMeta] != 1 {
		return info, fmt.Errorf("%w: meta and genesis of a membership: %w", ErrStore, errors.Join(err, wire.ErrFormat))
	}
	return BackupInfo{
		Unit: fmt.Sprintf("%x", unit[:]), Group: meta.Group, ID: genesis.ID().String(), Name: meta.Name,
		Members: count[keySeat], Epochs: len(meta.Epochs), Events: count[keyEvent], Invites: invites, Evidence: count[keyEvidence],
	}, nil
}

// backupKind is the kind of a record that a backup may hold.
func backupKind(unit store.Unit, key []byte) (byte, error) {
	if len(key) <= len(unit) || store.Unit(key) != unit {
		return 0, errKind
	}
	for _, k := range kinds {
		if k.kind == key[len(unit)] && k.backup && (k.kind != keyMeta || len(key) == len(unit)+1) {
			return k.kind, nil
		}
	}
	return 0, errKind
}
