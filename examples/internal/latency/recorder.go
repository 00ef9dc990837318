package latency

import "time"

// A Recorder counts the durations of a whole load, and those since the last second's end apart. The zero Recorder is
// empty and ready for use. It is not safe for concurrent use.
type Recorder struct {
	all, second Histogram
}

// Add counts one duration.
func (r *Recorder) Add(d time.Duration) {
	r.all.Add(d)
	r.second.Add(d)
}

// All returns what has been counted since the beginning.
func (r *Recorder) All() *Histogram { return &r.all }

// EndSecond returns what has been counted since the call before.
func (r *Recorder) EndSecond() *Histogram {
	second := r.second
	r.second = Histogram{}
	return &second
}
