package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/asn"
	"parallax/internal/cli"
	"parallax/node"
)

// networksFlag lets a command take a table of networks.
func networksFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "networks", "", "table of networks and countries in the form of iptoasn.com, also .gz (default: networks in "+configFile+")")
}

// locations asks where a group's relays are, with what a table says of them: the
// file's, or that of the settings. A file that is named must read; one of the
// settings must not keep a command that is about something else from showing it.
func (a *app) locations(ctx context.Context, c node.Client, unit, file string) (v member.LocationsInfo, table *member.Table, err error) {
	if v, err = ask[member.LocationsInfo](ctx, c, unit, member.GetLocations{}); err != nil {
		return v, nil, err
	}
	from := file
	if from == "" {
		from, err = a.networks()
	}
	if err == nil && from != "" {
		table, err = readTable(from, v)
	}
	if err != nil && file == "" {
		a.Say("Networks and countries are shown without a table: %s", cli.Line(err))
		err = nil
	}
	if err != nil || table == nil {
		return v, nil, err
	}
	v, err = ask[member.LocationsInfo](ctx, c, unit, member.GetLocations{Table: table})
	return v, table, err
}

// networks is the table that the settings name, relative to their folder.
func (a *app) networks() (string, error) {
	s, err := a.settings()
	if err != nil || s.Networks == "" || filepath.IsAbs(s.Networks) {
		return s.Networks, err
	}
	dir, err := a.folder()
	return filepath.Join(dir, s.Networks), err
}

// readTable reads what a table says of these relays' addresses.
func readTable(file string, v member.LocationsInfo) (*member.Table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "the table of networks cannot be read: %w", err)
	}
	defer f.Close()
	var asked []netip.Addr
	for _, r := range v.Relays {
		for _, l := range r.Locations {
			if ip, err := netip.ParseAddr(l.Address); err == nil {
				asked = append(asked, ip)
			}
		}
	}
	found, err := asn.Find(f, asked)
	if err != nil {
		return nil, cli.Errorf(cli.Usage, "%s: %w", file, err)
	}
	t := &member.Table{Name: strings.ToValidUTF8(filepath.Base(file), "?"), Rows: []member.TableRow{}}
	for _, ip := range asked {
		if r, ok := found[ip]; ok {
			t.Rows = append(t.Rows, member.TableRow{Address: ip, ASN: r.ASN, Holder: r.Holder, Country: r.Country})
			delete(found, ip)
		}
	}
	return t, nil
}

// together says which relays are in one place, and whose word that is.
func together(s member.SharedLocation, table string) string {
	var what string
	switch {
	case s.Local:
		what = fmt.Sprintf("%s have addresses in this computer's own network, %s", and(s.Relays), s.Name)
	case s.Kind == member.SharedNetwork:
		what = fmt.Sprintf("%s have addresses in one network, %s", and(s.Relays), s.Name)
	case s.Kind == member.SharedAS:
		what = fmt.Sprintf("%s have one provider, %s, says %s", and(s.Relays), asName(s), cli.Clean(table))
	default:
		what = fmt.Sprintf("%s have addresses of one country, %s, says %s", and(s.Relays), s.Name, cli.Clean(table))
	}
	if len(s.ByLink) > 0 {
		what += fmt.Sprintf(" (of %s, links stood there)", and(s.ByLink))
	}
	return what + "."
}

func asName(s member.SharedLocation) string {
	if s.Holder == "" {
		return s.Name
	}
	return fmt.Sprintf("%s (%s)", s.Name, cli.Clean(s.Holder))
}

// notable are the shared locations that are shown in passing: not the computer
// itself, where relays are tried out or tunnels end.
func notable(list []member.SharedLocation, kinds ...string) []member.SharedLocation {
	return slices.DeleteFunc(slices.Clone(list), func(s member.SharedLocation) bool { return s.Local || !slices.Contains(kinds, s.Kind) })
}

// inPassing tells of shared networks where something else is shown; of an AS only if
// no network says the same.
func inPassing(list []member.SharedLocation, table string) (lines []string) {
	var said [][]string
	for _, s := range notable(list, member.SharedNetwork, member.SharedAS) {
		if !slices.ContainsFunc(said, func(relays []string) bool { return slices.Equal(relays, s.Relays) }) {
			said = append(said, s.Relays)
			lines = append(lines, strings.TrimSuffix(together(s, table), ".")+": perhaps one hand, perhaps not (parallax coalition).")
		}
	}
	return lines
}

// whereabouts is where a relay is, in a cell.
func whereabouts(list []member.Location) string {
	var words []string
	for _, l := range list {
		word := l.Network
		if l.ASN != 0 {
			word = fmt.Sprintf("AS%d", l.ASN)
		} else if ip, err := netip.ParseAddr(l.Address); err == nil && ip.IsLoopback() {
			word = "this computer"
		}
		if l.Country != "" {
			word += " " + l.Country
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// whereTable lists the relays' locations with the source of each.
func (a *app) whereTable(w *strings.Builder, relays []member.RelayOperator, table string) {
	var rows [][]cli.Cell
	for _, r := range relays {
		for _, l := range r.Locations {
			from := "its address"
			if l.From == member.FromLink {
				from = "a link on " + l.Seen.Local().Format("2 January")
			}
			as := ""
			if l.ASN != 0 {
				as = strings.TrimSpace(fmt.Sprintf("AS%d %s", l.ASN, cli.Clean(l.Holder)))
			}
			rows = append(rows, cli.Cells(r.Label, l.Address, from, l.Network, l.Country, as))
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w)
	if table == "" {
		a.Table(w, []string{"relay", "address", "known by", "network"}, cut(rows, 4))
		return
	}
	a.Table(w, []string{"relay", "address", "known by", "network", "country", "provider"}, rows)
	fmt.Fprintf(w, "Countries and providers are what %s says; nobody checked it.\n", cli.Clean(table))
}

// cut is the first columns of a table.
func cut(rows [][]cli.Cell, n int) [][]cli.Cell {
	out := make([][]cli.Cell, len(rows))
	for i, r := range rows {
		out[i] = r[:n]
	}
	return out
}
