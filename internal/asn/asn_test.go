package asn

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func addrs(texts ...string) (list []netip.Addr) {
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

func packed(t testing.TB, text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFind: ends of ranges, gaps, both families, in any order of asking, plain,
// packed and with the line ends of another system.
func TestFind(t *testing.T) {
	raw, err := os.ReadFile("testdata/small.tsv")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"198.51.100.0": "64496 DE Anchor Hosting", "198.51.100.255": "64496 DE Anchor Hosting", "198.51.101.0": "0  ", "198.51.102.1": "",
		"203.0.113.7": "64497 CH Größe \ufffd", "203.0.114.0": "", "0.0.0.1": "", "255.255.255.255": "",
		"2001:db8::": "64496 DE Anchor Hosting", "2001:db8:0:ffff::1": "64496 DE Anchor Hosting", "2001:db8:1::": "4294967295  Last", "::1": "", "::ffff:198.51.100.1": "",
	}
	var ask []string
	for a := range want {
		ask = append(ask, a, a)
	}
	for name, table := range map[string][]byte{"plain": raw, "packed": packed(t, raw), "carriage returns": bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")), "no last end": bytes.TrimSuffix(raw, []byte("\n"))} {
		got, err := Find(iotest.OneByteReader(bytes.NewReader(table)), addrs(ask...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for a, w := range want {
			r, ok := got[netip.MustParseAddr(a)]
			if said := fmt.Sprintf("%d %s %s", r.ASN, r.Country, r.Holder); ok != (w != "") || ok && said != w {
				t.Errorf("%s: %s is %v %q, want %q", name, a, ok, said, w)
			}
		}
	}
	if got, err := Find(bytes.NewReader(raw), nil); err != nil || len(got) != 0 {
		t.Errorf("nothing asked: %v, %v", got, err)
	}
}

// TestFindRefuses: every defect with its line.
func TestFindRefuses(t *testing.T) {
	good := "198.51.100.0\t198.51.100.255\t64496\tDE\tAnchor\n"
	long := "1.0.0.0\t1.0.0.255\t1\tDE\t" + strings.Repeat("x", MaxLine)
	for table, want := range map[string]string{
		"":                                     "it is empty",
		"\n":                                   "line 1: 1 fields, not 5",
		good + "\n":                            "line 2: 1 fields, not 5",
		"range_start\trange_end\ta\tb\tc\n":    `line 1: "range_start" is not an address`,
		"198.51.100.0,198.51.100.255,1,DE,A\n": "line 1: 1 fields",
		good + "198.51.101.0\t198.51.101.255\t64496\tDE\n":                           "line 2: 4 fields",
		good + "198.51.101.0\t198.51.101.255\t64496\tDE\ta\tb\n":                     "line 2: 6 fields",
		good + "198.51.100.255\t198.51.101.255\t64496\tDE\tb\n":                      "line 2: the range begins at 198.51.100.255, and the one before ends at 198.51.100.255",
		good + "1.0.0.0\t1.0.0.255\t64496\tDE\tb\n":                                  "line 2: the range begins at 1.0.0.0",
		"1.0.0.9\t1.0.0.1\t1\tDE\tb\n":                                               "line 1: the range ends at 1.0.0.1, before",
		"1.0.0.0\t::1\t1\tDE\tb\n":                                                   "line 1: a range from 1.0.0.0 to ::1",
		"fe80::1%eth0\tfe80::2%eth0\t1\tDE\tb\n":                                     "is not an address",
		"16777216\t16777471\t1\tDE\tb\n":                                             "is not an address",
		"1.0.0.0\t1.0.0.255\tAS1\tDE\tb\n":                                           `"AS1" is not an AS number`,
		"1.0.0.0\t1.0.0.255\t01\tDE\tb\n":                                            "is not an AS number",
		"1.0.0.0\t1.0.0.255\t\tDE\tb\n":                                              "is not an AS number",
		"1.0.0.0\t1.0.0.255\t4294967296\tDE\tb\n":                                    "is not an AS number",
		"1.0.0.0\t1.0.0.255\t1\tGermany\tb\n":                                        `"Germany" is not a country`,
		"1.0.0.0\t1.0.0.255\t1\tde\tb\n":                                             "is not a country",
		"2001:db8::\t2001:db8::1\t1\tDE\tb\n" + good + "2001:db8::\t::2\t1\tDE\tb\n": "line 3: the range ends at ::2",
		good + long:                  "line 2 has more than 1024 bytes",
		strings.Repeat("x", 200<<10): "line 1 has more than 1024 bytes",
	} {
		for name, b := range map[string][]byte{"plain": []byte(table), "packed": packed(t, []byte(table))} {
			_, err := Find(bytes.NewReader(b), addrs("198.51.100.1"))
			if !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %.40q: %v; want %q", name, table, err, want)
			}
		}
	}
	z := packed(t, []byte(good))
	z[len(z)-5] ^= 1 // its checksum
	for name, b := range map[string][]byte{"checksum": z, "cut": z[:len(z)-9], "head": z[:3]} {
		if _, err := Find(bytes.NewReader(b), nil); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("disk")
	for _, r := range []io.Reader{iotest.ErrReader(broken), io.MultiReader(strings.NewReader(good), iotest.ErrReader(broken))} {
		if _, err := Find(r, nil); !errors.Is(err, broken) || errors.Is(err, ErrTable) {
			t.Errorf("a reader that fails: %v", err)
		}
	}
}

// TestFindEnds: a table that unpacks to more and more is given up.
func TestFindEnds(t *testing.T) {
	raw, err := os.ReadFile("testdata/small.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range [][]byte{raw, packed(t, raw)} {
		if _, err := find(bytes.NewReader(table), nil, len(raw)); err != nil {
			t.Error(err)
		}
		if _, err := find(bytes.NewReader(table), nil, len(raw)-1); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), "line 5: more than ") {
			t.Error(err)
		}
	}
}

// TestFindAgainstScan: over random tables, the same as looking at every row.
func TestFindAgainstScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table strings.Builder
		var rows []Row
		four := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
		six := func(n int) netip.Addr { return netip.AddrFrom16([16]byte{0: 0x20, 14: byte(n >> 8), 15: byte(n)}) }
		for _, of := range rapid.SampledFrom([][]func(int) netip.Addr{{four}, {six}, {four, six}, {six, four}}).Draw(t, "families") {
			at := 0
			for range rapid.IntRange(0, 8).Draw(t, "ranges") {
				at += rapid.IntRange(0, 3).Draw(t, "gap")
				end := at + rapid.IntRange(0, 5).Draw(t, "length")
				r := Row{First: of(at), Last: of(end), ASN: uint32(rapid.IntRange(0, 3).Draw(t, "as")), Country: "DE"}
				if r.ASN > 0 {
					r.Holder = "h"
				}
				rows = append(rows, r)
				fmt.Fprintf(&table, "%s\t%s\t%d\tDE\th\n", r.First, r.Last, r.ASN)
				at = end + 1
			}
		}
		var ask []netip.Addr
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 70), 0, 12).Draw(t, "asked") {
			ask = append(ask, four(n), six(n))
		}
		got, err := Find(strings.NewReader(table.String()), ask)
		if len(rows) == 0 {
			if !errors.Is(err, ErrTable) {
				t.Fatal(err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		want := map[netip.Addr]Row{}
		for _, a := range ask {
			for _, r := range rows {
				if a.Is4() == r.First.Is4() && !a.Less(r.First) && !r.Last.Less(a) {
					want[a] = r
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v, want %v in\n%s", got, want, table.String())
		}
	})
}

func FuzzFind(f *testing.F) {
	raw, err := os.ReadFile("testdata/small.tsv")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(packed(f, raw))
	f.Add([]byte("::\t::\t0\tNone\tNot routed"))
	f.Add([]byte("1.0.0.0\t1.0.0.255\t1\tGB\t\r\n"))
	ask := addrs("198.51.100.9", "203.0.113.7", "2001:db8::1", "1.0.0.1", "::")
	f.Fuzz(func(t *testing.T, table []byte) {
		got, err := Find(bytes.NewReader(table), ask)
		if err != nil {
			if !errors.Is(err, ErrTable) || got != nil {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		for a, r := range got {
			if a.Less(r.First) || r.Last.Less(a) || a.Is4() != r.First.Is4() || r.Country != "" && !IsCountry(r.Country) || strings.ContainsAny(r.Holder, "\t\n") {
				t.Fatalf("%s in %+v", a, r)
			}
		}
	})
}

// BenchmarkFind is a table of the size of the Internet's: 700,000 ranges.
func BenchmarkFind(b *testing.B) {
	var t bytes.Buffer
	for i := range 700_000 {
		a := netip.AddrFrom4([4]byte{byte(i >> 14), byte(i >> 6), byte(i << 2), 0})
		z := netip.AddrFrom4([4]byte{byte(i >> 14), byte(i >> 6), byte(i<<2) | 3, 255})
		fmt.Fprintf(&t, "%s\t%s\t%d\tDE\tSome network of somebody, number %d\n", a, z, i%70000, i%70000)
	}
	ask := addrs("1.2.3.4", "9.9.9.9", "2001:db8::1")
	for name, table := range map[string][]byte{"plain": t.Bytes(), "packed": packed(b, t.Bytes())} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(t.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Find(bytes.NewReader(table), ask); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
