// Package asn reads tables that tell which network announces a range of IP
// addresses and in which country it is registered, in the form of iptoasn.com
// (docs/protocol.md section 9.1, "Smallest coalition"): one range a line, five
// fields with tabs between,
//
//	first address, last address, AS number, country, description
//
// IPv4 and IPv6, each ascending and without overlap; as it is or through gzip. AS
// number 0 and the country "None" say that nothing is known. A table is somebody's
// word, and nothing that Parallax decides hangs on one.
//
// Find keeps only the lines that it was asked for. It may be called concurrently
// with tables and addresses of one's own.
package asn

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Limits of a table.
const (
	// MaxTable is how many bytes one may have, unpacked. Default: 512 MiB, ten
	// times what the whole Internet takes.
	MaxTable = 512 << 20
	// MaxLine is how many bytes a line may have. Default: 1,024.
	MaxLine = 1024
)

const fields = 5

// ErrTable: the table is not in the form of iptoasn.com. The error tells the line.
var ErrTable = errors.New("this is not a table of networks in the form of iptoasn.com (first, last, AS number, country, description, with tabs between)")

// Row is what a table says of one range.
type Row struct {
	First, Last netip.Addr
	ASN         uint32 // 0: nobody announces it
	Country     string // two capital letters, or empty
	Holder      string // description of the AS: text of somebody else, valid UTF-8; empty with ASN 0
}

// Find reads a whole table and returns what it says of these addresses; one that
// is in no range is not in the answer. Addresses are taken as they are: an IPv4
// address inside an IPv6 one is looked for among IPv6. Errors: ErrTable, and what
// the reader says.
func Find(table io.Reader, addrs []netip.Addr) (map[netip.Addr]Row, error) {
	return find(table, addrs, MaxTable)
}

// find is Find for a table of at most so many bytes.
func find(table io.Reader, addrs []netip.Addr, most int) (map[netip.Addr]Row, error) {
	in, packed, err := unpacked(table)
	if err != nil {
		return nil, err
	}
	f := newFinder(addrs)
	n, total := 0, 0
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			n++
			total += len(line)
			switch {
			case len(line) > MaxLine:
				return nil, fmt.Errorf("%w: line %d has more than %d bytes", ErrTable, n, MaxLine)
			case total > most:
				return nil, fmt.Errorf("%w: line %d: more than %d bytes in all", ErrTable, n, most)
			}
			if e := f.line(string(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")))); e != nil {
				return nil, fmt.Errorf("%w: line %d: %w", ErrTable, n, e)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && n == 0:
			return nil, fmt.Errorf("%w: it is empty", ErrTable)
		case errors.Is(err, io.EOF):
			return f.found, nil
		case packed:
			return nil, fmt.Errorf("%w: after line %d: %w", ErrTable, n, err)
		default:
			return nil, fmt.Errorf("after line %d: %w", n, err)
		}
	}
}

// unpacked looks through gzip, whose files begin with the bytes 1f 8b.
func unpacked(table io.Reader) (in *bufio.Reader, packed bool, err error) {
	const buffer = 64 << 10 // above MaxLine, so that ReadSlice never finds it full
	in = bufio.NewReaderSize(table, buffer)
	head, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	if !bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return in, false, nil
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, true, fmt.Errorf("%w: %w", ErrTable, err)
	}
	return bufio.NewReaderSize(z, buffer), true, nil
}

// finder goes through the lines once.
type finder struct {
	found map[netip.Addr]Row
	four  family
	six   family
}

// family is one kind of addresses.
type family struct {
	wanted []netip.Addr // not passed yet, ascending
	last   netip.Addr   // of the range before; zero: there was none
}

func newFinder(addrs []netip.Addr) *finder {
	f := &finder{found: map[netip.Addr]Row{}}
	for _, a := range addrs {
		if a.IsValid() && a.Zone() == "" {
			of := f.of(a)
			of.wanted = append(of.wanted, a)
		}
	}
	slices.SortFunc(f.four.wanted, netip.Addr.Compare)
	slices.SortFunc(f.six.wanted, netip.Addr.Compare)
	return f
}

func (f *finder) of(a netip.Addr) *family {
	if a.Is4() {
		return &f.four
	}
	return &f.six
}

// line takes one line.
func (f *finder) line(text string) error {
	if n := strings.Count(text, "\t") + 1; n != fields {
		return fmt.Errorf("%d fields, not %d", n, fields)
	}
	var parts [fields]string
	for i := range parts {
		parts[i], text, _ = strings.Cut(text, "\t")
	}
	first, err := address(parts[0])
	if err != nil {
		return err
	}
	last, err := address(parts[1])
	if err != nil {
		return err
	}
	of := f.of(first)
	switch {
	case first.BitLen() != last.BitLen():
		return fmt.Errorf("a range from %s to %s", first, last)
	case last.Less(first):
		return fmt.Errorf("the range ends at %s, before it begins at %s", last, first)
	case of.last.IsValid() && !of.last.Less(first):
		return fmt.Errorf("the range begins at %s, and the one before ends at %s: ranges ascend and do not overlap", first, of.last)
	}
	number, err := asNumber(parts[2])
	if err != nil {
		return err
	}
	country, err := countryCode(parts[3])
	if err != nil {
		return err
	}
	of.last = last
	for len(of.wanted) > 0 && !last.Less(of.wanted[0]) {
		if a := of.wanted[0]; !a.Less(first) {
			row := Row{First: first, Last: last, ASN: number, Country: country}
			if number != 0 {
				row.Holder = strings.ToValidUTF8(parts[4], "\ufffd")
			}
			f.found[a] = row
		}
		of.wanted = of.wanted[1:]
	}
	return nil
}

func address(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("%q is not an address", text)
	}
	return a, nil
}

func asNumber(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || text[0] == '0' && len(text) > 1 {
		return 0, fmt.Errorf("%q is not an AS number", text)
	}
	return uint32(n), nil
}

// countryCode is empty where the table knows none.
func countryCode(text string) (string, error) {
	if text == "None" || text == "Unknown" {
		return "", nil
	}
	if !IsCountry(text) {
		return "", fmt.Errorf("%q is not a country: two capital letters, or None", text)
	}
	return text, nil
}

// IsCountry tells whether a text has the form of a country: two capital letters.
func IsCountry(text string) bool {
	return len(text) == 2 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'A' && text[1] <= 'Z'
}
