// Package spelling finds the word that somebody has meant.
package spelling

import "strings"

// Nearest returns the one of known that word is most likely a misspelling of, or "" if none is near: at most a third of
// its letters are other ones, or one is the beginning of the other.
func Nearest(word string, known []string) string {
	best, least := "", len(word)/3+1
	if len(word) < 3 {
		return ""
	}
	word = strings.ToLower(word)
	for _, candidate := range known {
		d := distance(word, candidate)
		if strings.HasPrefix(candidate, word) || strings.HasPrefix(word, candidate) {
			d = 1
		}
		if d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace (Levenshtein), where two that have changed places count as
// one.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			changed := last[j-1]
			if a[i-1] != b[j-1] {
				changed++
			}
			row[j] = min(last[j]+1, row[j-1]+1, changed)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
