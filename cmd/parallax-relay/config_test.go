package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"parallax/internal/cli"
)

// uncommented makes every key that the template shows behind a # count.
func uncommented(text string) string {
	return regexp.MustCompile(`(?m)^#(\w+ = )`).ReplaceAllString(text, "$1")
}

func readText(t *testing.T, text string) *config {
	t.Helper()
	path := filepath.Join(t.TempDir(), configFile)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTemplate: what `init` writes is read back, shows every key, and shows it
// at the default that the limits' own documentation promises.
func TestTemplate(t *testing.T) {
	const nasty = "Ann \"\\ <x>"
	text := writeConfig(nasty, []string{"/ip4/127.0.0.1/tcp/1"}, nil, "tok")
	c := readText(t, text)
	want := &config{Listen: []string{"/ip4/127.0.0.1/tcp/1"}, Operator: operator{Name: nasty}, Access: access{Tokens: []string{"tok"}}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("read back %+v\nwant %+v", c, want)
	}
	full := readText(t, uncommented(text))
	if full.Log.Format != "text" || full.Log.Level != "info" {
		t.Errorf("log defaults shown as %+v", full.Log)
	}
	for _, s := range []struct {
		shown any
		file  string
		skip  map[string]bool
	}{
		// Refresh counts only where several front-ends share a store.
		{full.Limits, "../../broadcast/relay/config.go", map[string]bool{"Refresh": true}},
		{full.Connections, "../../node/limits.go", nil},
	} {
		promised := defaults(t, s.file)
		v := reflect.ValueOf(s.shown)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if got := fmt.Sprint(v.Field(i).Interface()); plain(got) != plain(promised[name]) {
				t.Errorf("%s: the template shows %s as %s, its documentation says %s", s.file, name, got, promised[name])
			}
			delete(promised, name)
		}
		for name := range promised {
			if !s.skip[name] {
				t.Errorf("%s: limit %s has no key in %s", s.file, name, configFile)
			}
		}
	}
}

// defaults reads "Name type // ... Default: X" of a file's limit struct.
func defaults(t *testing.T, file string) map[string]string {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`(?mi)^\t(\w+)\s+\S+\s+//.*default: (.*)$`).FindAllStringSubmatch(string(src), -1) {
		out[m[1]] = m[2]
	}
	if len(out) < 5 {
		t.Fatalf("%s documents only %d defaults", file, len(out))
	}
	return out
}

// plain writes a default the way the configuration prints it.
func plain(s string) string {
	s = strings.ReplaceAll(s, ",", "")
	var d cli.Duration
	long := strings.NewReplacer(" days", "d", " minutes", "m", " minute", "m", " s", "s").Replace(s)
	if d.Set(long) == nil {
		return time.Duration(d).String()
	}
	var z cli.Size
	if z.UnmarshalText([]byte(s)) == nil {
		return fmt.Sprint(int64(z))
	}
	return s
}

func TestConfigErrors(t *testing.T) {
	good := writeConfig("Ann", defaultListen, nil, "tok")
	for name, c := range map[string]struct{ from, to, want string }{
		"listen":   {`"/ip4/0.0.0.0/tcp/4801"`, `"0.0.0.0:4801"`, `listen: "0.0.0.0:4801" is not an address`},
		"public":   {"#public = []", `public = ["/ip4/1.2.3.4/udp/1"]`, `public: "/ip4/1.2.3.4/udp/1" is not an address`},
		"token":    {`["tok"]`, `["tok", "a#b"]`, "access.tokens, number 2"},
		"format":   {`#format = "text"`, `format = "xml"`, `log.format is "xml"`},
		"level":    {`#level = "info"`, `level = "loud"`, `log.level is "loud"`},
		"negative": {"#burst = 128", "burst = -1", "negative"},
		"operator": {`name = "Ann"`, `name = "A\u202eb"`, "operator.name"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatalf("%s: nothing was replaced", name)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readConfig(dir)
		if err == nil || !strings.Contains(err.Error(), c.want) || cli.ExitCode(err) != cli.Usage {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
