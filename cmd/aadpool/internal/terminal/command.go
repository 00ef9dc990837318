package terminal

import "strings"

// Command breaks a command for a shell, or SQL, into lines that can be copied as they are: at a space that is in no
// quotes and no $(…), with a backslash where a shell needs one. A line with a comment stays whole.
func (s Screen) Command(line string, indent int) string {
	const ends = 2 // a space and a backslash
	words, whole := commandWords(line)
	if s.Width == 0 || indent+len([]rune(line)) <= s.Width || whole {
		return line
	}
	lineEnd := " \\\n"
	if strings.HasSuffix(line, ";") {
		lineEnd = "\n"
	}
	return s.fill(words, indent, indent+2, ends, lineEnd)
}

// commandWords are what spaces separate outside of quotes and brackets. hasComment reports whether one begins with #.
func commandWords(line string) (words []string, hasComment bool) {
	var quote rune
	depth, start := 0, 0
	for i, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ' ' && depth == 0:
			words = append(words, line[start:i])
			start = i + 1
		case r == '#' && i == start:
			hasComment = true
		}
	}
	return append(words, line[start:]), hasComment
}
