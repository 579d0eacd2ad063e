package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed prices.json
var pricesFile []byte

// prices are what AWS asks; see prices.json.
type prices struct {
	Region      string  `json:"region"`
	Date        string  `json:"date"`
	WriteUnits  float64 `json:"dynamodb_write_units_million"`
	ReadUnits   float64 `json:"dynamodb_read_units_million"`
	SQSStandard float64 `json:"sqs_standard_requests_million"`
	SQSFIFO     float64 `json:"sqs_fifo_requests_million"`
	KMS         float64 `json:"kms_requests_10000"`
	KMSKey      float64 `json:"kms_key_month"`
	CPU         float64 `json:"fargate_arm_vcpu_hour"`
	Memory      float64 `json:"fargate_arm_gb_hour"`
}

func readPrices() (p prices, err error) {
	return p, json.Unmarshal(pricesFile, &p)
}

// of is what a usage costs.
func (p prices) of(u usage) float64 {
	return (u.WriteUnits*p.WriteUnits+u.ReadUnits*p.ReadUnits+u.Standard*p.SQSStandard+u.FIFO*p.SQSFIFO)/1e6 + u.KMS*p.KMS/1e4
}

// A month of a session, as the bill assumes it.
const (
	billSessions   = 1000
	billMessages   = 500 // a day and session
	billReconnects = 1   // a day and session
	billHandovers  = 8   // a month and session: deployments, machines retired
	billPairings   = 1   // a month and session
	hoursMonth     = 730
	daysMonth      = 365.0 / 12
)

// bill makes of what was counted the cost of 1,000 sessions for a month.
func (b *bench) bill() error {
	p, err := readPrices()
	if err != nil {
		return err
	}
	handover, ok := b.used["session handed over"]
	if !ok {
		handover = b.used["session taken over"] // the same for its instance
	}
	lines := []struct {
		name string
		cost float64
	}{
		{fmt.Sprintf("%d messages a day", billMessages), p.of(b.used["received message"].times(billMessages * daysMonth * billSessions))},
		{"idling", p.of(b.idleCost().times(hoursMonth))},
		{fmt.Sprintf("%d reconnect a day", billReconnects), p.of(b.used["reconnect"].times(billReconnects * daysMonth * billSessions))},
		{fmt.Sprintf("%d hand-overs", billHandovers), p.of(handover.times(billHandovers * billSessions))},
		{fmt.Sprintf("%d pairing", billPairings), p.of(b.used["pairing"].times(billPairings * billSessions))},
		{"key", p.KMSKey},
	}
	sum := 0.0
	for _, l := range lines {
		sum += l.cost
		b.report.add("Cost of 1,000 sessions a month: "+l.name, l.cost, "$")
	}
	b.report.add("Cost of 1,000 sessions a month: requests in all", sum, "$", goal(60),
		note("list prices of %s, %s, on demand; without logs, API calls, machines. A message is a transaction of two small items, which makes it durable, and one put into the log: %.3g write units",
			p.Region, p.Date, b.used["received message"].WriteUnits))
	b.report.add("Cost of 1,000 sessions a month: two hosts of 0.5 vCPU and 1 GB", 2*hoursMonth*(p.CPU/2+p.Memory), "$", note("Fargate on ARM"))
	return nil
}

// idleCost is what an idle hour of 1,000 sessions asks for. Most of it is the
// host's own, whatever its sessions; only reads of a shard's index grow with them.
func (b *bench) idleCost() usage {
	u := b.idleHour
	if b.idleSessions > 0 {
		u.ReadUnits += b.idleShards * (billSessions/float64(b.idleSessions) - 1)
	}
	return u
}
