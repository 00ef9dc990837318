package docs_test

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
)

func TestRelativeLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		for _, link := range linksOf(t, page) {
			checked++
			assert.NoError(t, follow(t, page, link.target), "%s:%d", page, link.number)
		}
	}
	assert.Greater(t, checked, 50)
}

type link struct {
	target string
	number int
}

// linkTarget also finds the second half of a link whose text began on the line before, and pictures of both themes.
var linkTarget = regexp.MustCompile(`\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)|\bsrc(?:set)?="([^"]+)"`)

// codeSpan is what is code within a line, and has no links.
var codeSpan = regexp.MustCompile("`[^`]*`")

func linksOf(t *testing.T, page string) (links []link) {
	for _, line := range linesOf(t, page) {
		if line.code {
			continue
		}
		for _, found := range linkTarget.FindAllStringSubmatch(codeSpan.ReplaceAllString(line.text, ""), -1) {
			target := found[1] + found[2] + found[3]
			if parsed, err := url.Parse(target); err != nil || parsed.Scheme == "" {
				links = append(links, link{target, line.number})
			}
		}
	}
	return links
}

// follow returns an error if a relative link leads nowhere.
func follow(t *testing.T, page, target string) error {
	file, anchor, _ := strings.Cut(target, "#")
	if file == "" {
		file = page
	} else {
		file = path.Join(path.Dir(page), file)
	}
	info, err := os.Stat(filepath.Join(root, file))
	if err != nil {
		return fmt.Errorf("%s: there is no %s", target, file)
	}
	if anchor == "" {
		return nil
	}
	if info.IsDir() {
		file = path.Join(file, "README.md")
	}
	for _, line := range linesOf(t, file) {
		if !line.code && strings.HasPrefix(line.text, "#") && anchorOf(line.text) == anchor {
			return nil
		}
	}
	return fmt.Errorf("%s: %s has no heading for #%s", target, file, anchor)
}

// anchorOf is what GitHub makes of a heading.
func anchorOf(heading string) string {
	heading = strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return r
		}
		return -1
	}, heading)
}

func TestAnchors(t *testing.T) {
	for _, row := range []struct{ heading, want string }{
		{"## Several hosts, read replicas", "several-hosts-read-replicas"},
		{"### `aadpool check` [DSN]", "aadpool-check-dsn"},
		{"# From database/sql with pgx", "from-databasesql-with-pgx"},
		{"## The role's name", "the-roles-name"},
	} {
		assert.Equal(t, row.want, anchorOf(row.heading))
	}
}
