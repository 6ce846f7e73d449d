package member

import (
	"fmt"
	"strconv"
	"strings"

	"parallax/broadcast"
	"parallax/internal/wire"
)

// Roster pages: operations lie on the boards as entries `roster/<seat>/<page>`,
// which belong to the seat that carries them (docs/protocol.md section 8.1,
// "Pages"). A page only grows, and its version is how many operations it has, so
// one version is one value on every relay. Who carries an operation says nothing
// about it: it is signed.

const (
	// MaxPaged is how many operations one page carries.
	MaxPaged = 16
	// maxPages bounds the pages of one seat, by what a board has.
	maxPages = maxBoardEntries
)

// AppendOperations appends a page's value: u8 count, then each operation as
// bytes.
func AppendOperations(b []byte, list []*Operation) []byte {
	b = append(b, uint8(len(list)))
	for _, op := range list {
		b = wire.AppendBytes(b, op.Append(nil))
	}
	return b
}

// ParsePage reads a page's value: 1 to MaxPaged operations. Each is returned as
// it lies there, so that one which does not read, or is of a later version, does
// not hide the others.
func ParsePage(b []byte) ([][]byte, error) {
	r := wire.NewReader(b)
	list := readOperations(r, MaxPaged)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("roster page: %w", err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("roster page: it is empty: %w", wire.ErrFormat)
	}
	return list, nil
}

// readOperations reads a one-byte count of at most limit, and as many operations,
// not looked at.
func readOperations(r *wire.Reader, limit int) (list [][]byte) {
	for range readCount8(r, limit) {
		raw := r.Bytes(MaxOperation)
		if r.Err() != nil {
			return nil
		}
		list = append(list, raw)
	}
	return list
}

// pageName is the board name of a page.
func pageName(carrier wire.Seat, page int) string {
	return fmt.Sprintf("roster/%s/%d", carrier, page)
}

// parsePageName reads what stands after `roster/` in a board name.
func parsePageName(id string) (seat string, page int, ok bool) {
	seat, number, _ := strings.Cut(id, "/")
	page, err := strconv.Atoi(number)
	return seat, page, err == nil && page >= 0 && page < maxPages && strconv.Itoa(page) == number
}

// sawPage takes a page that a path shows. Of an own one that this installation
// did not write, as after a restore, the places are learned.
func (m *Machine) sawPage(p *path, carrier wire.Seat, page int, version uint64, value []byte) {
	raws, err := ParsePage(value)
	if err != nil {
		m.invalid(p, "a roster page")
		return
	}
	for i, raw := range raws {
		l := m.takeOperation(raw, p)
		if l != nil {
			l.sealed = max(l.sealed, generation(version)+1)
		}
		if carrier == m.self && l != nil && l.place == 0 {
			m.learnPlace(l, page, i)
		}
	}
}

// learnPlace notes that an own page has an operation, if it continues the pages
// as they are known.
func (m *Machine) learnPlace(l *logged, page, place int) {
	if page == len(m.pages) && place == 0 {
		m.pages = append(m.pages, nil)
	}
	if page < len(m.pages) && place == len(m.pages[page]) {
		m.pages[page] = append(m.pages[page], l)
		l.page, l.place = uint32(page), uint8(place+1)
		m.saveLogged(l)
	}
}

// carry puts operations that this seat does not carry yet on its own pages, and
// the pages on every board. It returns the posts.
func (m *Machine) carry(list ...*logged) map[wire.PostID]*path {
	changed := map[int]bool{}
	var order []int
	for _, l := range list {
		if l.place != 0 {
			continue
		}
		at := m.room(len(l.op.Append(nil)))
		m.learnPlace(l, at, len(m.pageAt(at)))
		if !changed[at] {
			changed[at] = true
			order = append(order, at)
		}
	}
	posts := map[wire.PostID]*path{}
	for _, at := range order {
		for _, p := range m.paths {
			if p.keepsBoard() {
				m.putPage(p, at)
				posts[p.queue[len(p.queue)-1].id] = p
			}
		}
	}
	return posts
}

func (m *Machine) pageAt(page int) []*logged {
	if page < len(m.pages) {
		return m.pages[page]
	}
	return nil
}

// room is the page that takes an operation of size bytes: the last, or a new one.
func (m *Machine) room(size int) int {
	last := len(m.pages) - 1
	if last < 0 || len(m.pages[last]) == MaxPaged {
		return last + 1
	}
	if m.sealedIn(last) != generation(m.keyring.inUse) {
		return last + 1 // who lacks the newer epoch's key reads on what was written before it
	}
	used := 1
	for _, l := range m.pages[last] {
		used += 4 + len(l.op.Append(nil))
	}
	if used+4+size > broadcast.MaxEntryValue {
		return last + 1
	}
	return last
}

// pageValue is what an own page says now.
func (m *Machine) pageValue(page int) []byte {
	var list []*Operation
	for _, l := range m.pages[page] {
		list = append(list, l.op)
	}
	return AppendOperations(nil, list)
}

func (m *Machine) putPage(p *path, page int) {
	if m.sealed == nil {
		m.sealed = map[int]uint64{}
	}
	m.sealed[page] = generation(m.keyring.inUse)
	m.putEntry(p, epochKey, pageName(m.self, page), m.pageVersion(len(m.pages[page])), m.pageValue(page), m.keyring.owner)
}

// keeps tells of a path whether all of its posts among these have a receipt.
func (m *Machine) keeps(posts map[wire.PostID]*path) func(*path) bool {
	open := map[*path]bool{}
	for id, p := range posts {
		open[p] = open[p] || m.queued(p, id) || m.declined[id]
	}
	return func(p *path) bool {
		waits, has := open[p]
		return has && !waits
	}
}

// awaited tells whether any of these posts still waits for its receipt.
func (m *Machine) awaited(posts map[wire.PostID]*path) bool {
	for id, p := range posts {
		if p.counts() && m.queued(p, id) {
			return true
		}
	}
	return false
}
