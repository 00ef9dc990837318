package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTooLong(t *testing.T) {
	for _, row := range []struct {
		name   string
		limit  limits
		source string
		want   []string
	}{
		{"a function at the limit", limits{lines: 3}, "package p\n\nfunc f() {\n\tg()\n}\n", nil},
		{"a function over it", limits{lines: 2}, "package p\n\nfunc f() {\n\tg()\n}\n",
			[]string{"p.go:3: func f has 3 lines, more than 2"}},
		{"a method", limits{lines: 1}, "package p\n\n// Comments\n// count not.\nfunc (t) f() {\n}\n",
			[]string{"p.go:5: func f has 2 lines, more than 1"}},
		{"a line at the limit", limits{columns: 9}, "package p\n", nil},
		{"a line over it", limits{columns: 8}, "package p\n", []string{"p.go:1: 9 columns, more than 8"}},
		{"columns are characters", limits{columns: 10}, "package p\n\n// äöüäöüß\n", nil},
		{"a raw string of several lines, which cannot be broken", limits{columns: 12},
			"package p\n\nvar a = `one\ntwo and three and four`\n", nil},
		{"a raw string of one line", limits{columns: 12}, "package p\n\nvar a = `one two`\n",
			[]string{"p.go:3: 17 columns, more than 12"}},
		{"a struct tag, which cannot be broken", limits{columns: 15},
			"package p\n\ntype t struct {\n\ta int `json:\"a\"`\n}\n", nil},
		{"no limit", limits{}, "package p\n\nfunc f() {\n}\n", nil},
		{"what is no Go", limits{}, "p", []string{"p.go:1:1: expected 'package', found p"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, row.limit.tooLong("p.go", []byte(row.source)))
		})
	}
}

func TestFunctionsOfTestsMayBeLong(t *testing.T) {
	source := []byte("package p\n\nfunc f() {\n\tg()\n}\n")
	assert.Equal(t, []string{"p_test.go:3: 10 columns, more than 9"},
		limits{lines: 1, columns: 9}.tooLong("p_test.go", source))
}

func TestTooLongInADirectoryWithoutGoFiles(t *testing.T) {
	assert.Equal(t, []string{"testdata: no Go files"}, limits{}.tooLongIn("testdata"))
}
