package latency

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestRecorder(t *testing.T) {
	var r Recorder
	assert.Zero(t, r.EndSecond().Count())
	r.Add(time.Millisecond)
	first := r.EndSecond()
	r.Add(3 * time.Millisecond)
	r.Add(5 * time.Millisecond)

	assert.EqualValues(t, 1, first.Count(), "what comes later is not in it")
	assert.EqualValues(t, 3, r.All().Count())
	assert.Equal(t, 5*time.Millisecond, r.All().Max())
	assert.InEpsilon(t, 3*time.Millisecond, r.All().Percentile(50), 1.0/sub)
	second := r.EndSecond()
	assert.EqualValues(t, 2, second.Count())
	assert.Equal(t, 5*time.Millisecond, second.Max())
	assert.Zero(t, r.EndSecond().Count())
	assert.EqualValues(t, 3, r.All().Count())
}
