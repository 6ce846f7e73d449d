package cli

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// ReadTOML reads a configuration file into v, a pointer to a struct with toml
// tags. A key that v does not have is an error: a limit that is misspelt would
// otherwise silently not be there. Errors name file and line, exit code Usage;
// a file that cannot be read is what the operating system says.
func ReadTOML(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return decodeTOML(path, string(raw), v)
}

func decodeTOML(path, text string, v any) error {
	meta, err := toml.Decode(text, v)
	if p, ok := errors.AsType[toml.ParseError](err); ok {
		what := p.Message
		if p.LastKey != "" {
			what = p.LastKey + ": " + what
		}
		return Errorf(Usage, "%s:%d: %s", path, max(p.Position.Line, 1), what)
	}
	if err != nil {
		what := err.Error()
		if m := typeError.FindStringSubmatch(what); m != nil {
			what = m[1] + ": " + m[2] + ": " + m[3]
		}
		return Errorf(Usage, "%s:%s", path, what)
	}
	unknown := meta.Undecoded()
	if len(unknown) == 0 {
		return nil
	}
	var known []string
	knownKeys(reflect.TypeOf(v).Elem(), "", &known)
	key := unknown[0]
	hint := ""
	if near := Nearest(key.String(), known); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return Errorf(Usage, "%s:%d: there is no key %q%s", path, lineOf(text, key), key, hint)
}

// typeError is how the library tells of a value of the wrong type.
var typeError = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (.*)$`)

// knownKeys lists the keys of a configuration struct, dotted.
func knownKeys(t reflect.Type, prefix string, list *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}
		*list = append(*list, prefix+name)
		if f.Type.Kind() == reflect.Struct {
			knownKeys(f.Type, prefix+name+".", list)
		}
	}
}

// lineOf finds the line that a key stands on; 1 if it is written in a way that
// only the parser follows.
func lineOf(text string, key toml.Key) int {
	want := strings.Join(key, ".")
	table, n := "", 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line = strings.TrimSpace(line)
		if head, ok := strings.CutPrefix(line, "["); ok {
			table = plainKey(head[:max(strings.IndexByte(head, ']'), 0)])
			if table == want {
				return n
			}
			table += "."
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if ok && table+plainKey(name) == want {
			return n
		}
	}
	return 1
}

// plainKey drops the spaces and quotes that TOML allows around a key's parts.
func plainKey(key string) string {
	parts := strings.Split(strings.Trim(key, "[] \t"), ".")
	for i, p := range parts {
		parts[i] = strings.Trim(p, " \t\"'")
	}
	return strings.Join(parts, ".")
}

// Nearest is the candidate that name was probably meant to be, or "".
func Nearest(name string, candidates []string) string {
	best, least := "", max(len(name)/3, 2)+1
	for _, c := range candidates {
		if d := distance(name, c); d < least {
			best, least = c, d
		}
	}
	if best == "" { // the right key in the wrong table
		for _, c := range candidates {
			if lastPart(c) == lastPart(name) {
				return c
			}
		}
	}
	return best
}

func lastPart(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
