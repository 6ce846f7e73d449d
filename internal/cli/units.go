package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Duration is a time.Duration written as people do: "30s", "90m", "7d", "3w".
// It is a TOML value and a flag.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error { return d.Set(string(text)) }

// Set implements pflag.Value.
func (d *Duration) Set(s string) error {
	for suffix, unit := range map[string]time.Duration{"d": day, "w": week} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			v, err := strconv.ParseUint(n, 10, 32)
			if err == nil && v <= uint64(math.MaxInt64/unit) {
				*d = Duration(time.Duration(v) * unit)
				return nil
			}
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf(`%q is not a length of time such as "30s", "90m", "12h" or "7d"`, s)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string {
	switch v := time.Duration(d); {
	case v == 0:
		return "0s"
	case v%day == 0:
		return fmt.Sprintf("%dd", v/day)
	case v%time.Hour == 0:
		return fmt.Sprintf("%dh", v/time.Hour)
	case v%time.Minute == 0:
		return fmt.Sprintf("%dm", v/time.Minute)
	default:
		return v.String()
	}
}

// Type implements pflag.Value.
func (d *Duration) Type() string { return "time" }

// Size is a number of bytes: "64 KiB", "1 GiB", "4096". It is a TOML value.
type Size int64

var sizes = []struct {
	name string
	size Size
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (z *Size) UnmarshalText(text []byte) error {
	s, unit := string(text), Size(1)
	for _, u := range sizes {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			s, unit = strings.TrimSpace(n), u.size
			break
		}
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 0 || v > math.MaxInt64/int64(unit) {
		return fmt.Errorf(`%q is not a number of bytes such as "64 KiB", "6 MiB" or "1 GiB"`, text)
	}
	*z = Size(v) * unit
	return nil
}

func (z Size) String() string {
	for _, u := range sizes {
		if z != 0 && z%u.size == 0 {
			return fmt.Sprintf("%d %s", z/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(z), 10)
}
