package member_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// newsOperations are two operations of one author, and a key.
func newsOperations() ([]*member.Operation, []member.EpochSecret) {
	author := keys.NewPrivate[keys.RoleMember]([32]byte{1})
	leave := &member.Operation{Group: wire.GroupID{2}, Author: author.Public(), Sequence: 1, Time: time.Unix(1_800_000_000, 0), Body: member.OpLeave{}}
	leave.Sign(author)
	revoke := &member.Operation{Group: wire.GroupID{2}, Author: author.Public(), Sequence: 2, Previous: leave.Digest(), Body: member.OpRevoke{Invite: [16]byte{3}}}
	revoke.Sign(author)
	return []*member.Operation{leave, revoke}, []member.EpochSecret{{Operation: wire.Digest{4}, Key: keys.NewSecret[keys.RoleEpoch]([32]byte{5})}}
}

// TestNewsLayout pins the bodies of pages and of bundles of kind 3.
func TestNewsLayout(t *testing.T) {
	list, secrets := newsOperations()
	page := member.AppendOperations(nil, list)
	if page[0] != 2 || hex.EncodeToString(page[1:5]) != "000000b3" {
		t.Errorf("a page begins %x", page[:5])
	}
	news := member.AppendNews(nil, list, secrets)
	if !bytes.HasPrefix(news, page) || !bytes.Equal(news[len(page):], slices.Concat([]byte{1, 4}, make([]byte, 31), []byte{5}, make([]byte, 31))) {
		t.Errorf("news ends %x", news[len(page):])
	}
	if got := hexHash(news); got != newsGolden {
		t.Errorf("news has hash %s", got)
	}
	raws, err := member.ParsePage(page)
	if err != nil || len(raws) != 2 || !bytes.Equal(raws[1], list[1].Append(nil)) {
		t.Errorf("a page reads back as %x, %v", raws, err)
	}
	raws, back, err := member.ParseNews(news)
	if err != nil || len(raws) != 2 || len(back) != 1 || !back[0].Key.Equal(&secrets[0].Key) {
		t.Errorf("news read back as %x, %d keys, %v", raws, len(back), err)
	}
	for name, b := range map[string][]byte{"empty": nil, "no operation": {0}, "cut": page[:len(page)-1], "longer": append(slices.Clone(page), 0), "too many": append([]byte{member.MaxPaged + 1}, page[1:]...)} {
		if _, err := member.ParsePage(b); err == nil {
			t.Errorf("a page that is %s is taken", name)
		}
	}
	twice := member.AppendNews(nil, nil, append(secrets, secrets...))
	for name, b := range map[string][]byte{"empty": nil, "of nothing": {0, 0}, "cut": news[:len(news)-1], "longer": append(slices.Clone(news), 0), "of a key twice": twice} {
		if _, _, err := member.ParseNews(b); !errors.Is(err, wire.ErrFormat) && !errors.Is(err, wire.ErrShort) && !errors.Is(err, wire.ErrTrailing) {
			t.Errorf("news that are %s: %v", name, err)
		}
	}
}

func FuzzParsePage(f *testing.F) {
	list, _ := newsOperations()
	f.Add(member.AppendOperations(nil, list))
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		raws, err := member.ParsePage(b)
		if err != nil {
			return
		}
		again := []byte{uint8(len(raws))}
		for _, raw := range raws {
			again = wire.AppendBytes(again, raw)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x reads as %x", b, again)
		}
	})
}

func FuzzParseNews(f *testing.F) {
	f.Add(member.AppendNews(nil, nil, nil))
	list, secrets := newsOperations()
	f.Add(member.AppendNews(nil, list, secrets))
	f.Fuzz(func(t *testing.T, b []byte) {
		raws, secrets, err := member.ParseNews(b)
		if err != nil {
			return
		}
		again := []byte{uint8(len(raws))}
		for _, raw := range raws {
			again = wire.AppendBytes(again, raw)
		}
		again = append(again, uint8(len(secrets)))
		for i := range secrets {
			again = append(append(again, secrets[i].Operation[:]...), secrets[i].Key.Expose()...)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x reads as %x", b, again)
		}
	})
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

const newsGolden = "ae38940da93313ff609bcaa7f701b3d0982ee658115edee36ef028829903d250"
