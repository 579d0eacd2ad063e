package queue

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/shared/whatisup"
)

// Media is the queue of work on files. Its messages only say where to look.
type Media struct {
	client *sqs.Client
	url    string
}

// NewMedia sends to the queue at a URL.
func NewMedia(client *sqs.Client, url string) *Media { return &Media{client, url} }

// SendMedia asks that a file be looked at.
func (m *Media) SendMedia(ctx context.Context, w whatisup.MediaWork) error {
	body, err := json.Marshal(w)
	if err != nil {
		return err
	}
	_, err = m.client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &m.url, MessageBody: aws.String(string(body))})
	return translate("send to the media queue", err)
}
