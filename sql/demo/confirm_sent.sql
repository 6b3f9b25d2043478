select confirm_sent($1, 'the customer showed the message')
