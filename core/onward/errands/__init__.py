"""What is asked of services besides pushes: unsubscribe somebody, or erase them."""
